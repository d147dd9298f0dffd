"""Patient, case and stain, read out of the names of files."""

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from hsa.cohorts.folder import stem
from hsa.cohorts.manifest import HE
from hsa.errors import InputError

PATTERNS = (
    *("{case}_{stain}", "{case}-{stain}", "{case}.{stain}", "{case} {stain}", "{case}({stain})"),
    *("{stain}_{case}", "{stain}-{case}", "{stain} {case}", "{stain}/{case}", "{case}/{stain}"),
)
# Spellings of the routine stain, without case, signs and spaces; a marker's own name is always one of its.
HE_NAMES = ("he", "hande", "hne", "haematoxylineosin", "hematoxylineosin")
_SIGNS = r"[ &._-]*"  # what may stand between the letters of a stain
_SERIAL = r"(?:[ ._-]\d{1,3}|(?<!\d)\d{1,3})?"  # slide 2 of a stain: HE_2, HE2, but not P532
# Signs that part a field from its neighbours, and belong to neither.
_PARTING = " ._,;+&~-\u2010\u2011\u2012\u2013\u2014"


def read_all(
    names: Sequence[str], spelled: Mapping[str, str], pattern: str | None = None
) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Read names by a pattern, or by those of `PATTERNS` that read most: sites name their files differently.

    Args:
        names: relative paths.
        spelled: from `spellings`.
        pattern: the only one to try.

    Returns:
        name -> its patient, case and stain, where one fits; and the patterns that were used.
    """
    found: dict[str, dict[str, str]] = {}
    used: list[str] = []
    left = list(names)
    while left:
        tried = {p: _fitting(p, spelled, left) for p in ([pattern] if pattern else PATTERNS)}
        best = max(tried, key=lambda p: len(tried[p]))
        # One file more is rather something else than a second way of naming.
        if used and (pattern or len(tried[best]) < 2):
            break
        used.append(best)
        found |= tried[best]
        left = [name for name in left if name not in found]
    return found, used


def _fitting(pattern: str, spelled: Mapping[str, str], names: Sequence[str]) -> dict[str, dict[str, str]]:
    return {name: found for name in names if (found := read_name(pattern, spelled, name)) is not None}


def plain(text: str) -> str:
    """Take case and signs off a spelling."""
    return re.sub(r"[^a-z0-9]", "", text.lower())


def spellings(markers: Sequence[str], aliases: Mapping[str, str]) -> dict[str, str]:
    """Plain spelling -> stain."""
    known = {plain(name): HE for name in HE_NAMES} | {plain(marker): marker for marker in markers}
    for alias, stain in aliases.items():
        if stain not in (HE, *markers):
            raise InputError(f"alias {alias!r}: {stain!r} is none of {', '.join([HE, *markers])}")
        known[plain(alias)] = stain
    return known


def read_name(pattern: str, spelled: Mapping[str, str], name: str) -> dict[str, str] | None:
    """Read patient, case and stain out of a name, None if it does not fit."""
    parts = re.split(r"\{(\w+)\}", stem(pattern))
    fields = [part for part in parts[1::2] if part != "any"]
    if sorted(fields) not in (["case", "stain"], ["case", "patient", "stain"]):
        raise InputError(f"pattern {pattern!r}: needs {{case}} and {{stain}}, each once; may have {{patient}}, {{any}}")
    stains = "|".join(_SIGNS.join(map(re.escape, key)) for key in sorted(spelled, key=len, reverse=True))
    serial = _SERIAL if parts[-1] == "" and parts[-2] == "stain" else ""
    groups = {"stain": f"(?P<stain>{stains}){serial}", "any": "[^/]*?"}
    groups |= {key: rf"(?P<{key}>[^/]+?)" for key in ("patient", "case")}
    regex = "".join(groups[part] if i % 2 else re.escape(part) for i, part in enumerate(parts))
    tail = "/".join(PurePosixPath(stem(name)).parts[-1 - pattern.count("/") :])
    found = re.fullmatch(regex, tail, re.IGNORECASE)
    if found is None:
        return None
    named = found.groupdict()
    case, stain = named["case"].strip(_PARTING), spelled[plain(named["stain"])]
    patient = named.get("patient", case).strip(_PARTING)
    return {"patient": patient, "case": case, "stain": stain} if patient and case else None
