"""BCI (bupt-ai-cz.github.io/BCI): registered patches in H&E and HER2, with the HER2 score of their slide."""

import re
from pathlib import Path

from hsa.cohorts.public import manifest, registry

SCORES = ("0", "1+", "2+", "3+")
_NAME = re.compile(r"(\d+)_(train|val|test)_(.+)")


def import_cohort(
    source: str | Path, out: str | Path, root: str | Path | None = None, mpp: float | None = None
) -> Path:
    """Write the manifest of BCI as distributed: a case a pair of patches, label_HER2 the score in their name.

    The score is that of the slide, not of the patch. Which patches share a slide is not published, so that
    each pair counts as a patient of its own: folds are not patient-disjoint, and results are optimistic.

    Args:
        source: folder that holds HE/ and IHC/, at any depth.
        out: folder for manifest.csv.
        root: see `hsa.cohorts.public.manifest.write`.
        mpp: um/px in place of the published 0.46.

    Returns:
        The manifest's path.

    Raises:
        InputError: lists all problems, the layout that was expected and where to get the data.
    """
    cohort = registry.get("bci")
    source = manifest.check_source(cohort, source)
    problems = registry.bad_checksums(cohort, source)
    patches: dict[str, dict[tuple[str, str], tuple[str, Path]]] = {"HE": {}, "IHC": {}}
    for path in manifest.files(source, ".png"):
        where = path.relative_to(source)
        stains = [part for part in where.parts[:-1] if part in patches]
        match = _NAME.fullmatch(path.stem)
        if len(stains) != 1 or not match:
            problems.append(f"{where}: not below HE/ or IHC/, or the name is not NUMBER_PART_SCORE.png")
            continue
        number, part, score = match.groups()
        if score not in SCORES:
            problems.append(f"{where}: unknown HER2 score {score!r}. Known: {', '.join(SCORES)}.")
        key, side = (part, number), patches[stains[0]]
        if key in side:
            problems.append(f"{where}: the same patch as {side[key][1].relative_to(source)}. Keep one.")
        side.setdefault(key, (score, path))
    if not patches["HE"] and not patches["IHC"]:
        problems.append("no patches such as HE/train/00000_train_1+.png")
    rows = []
    for key in sorted(patches["HE"].keys() | patches["IHC"].keys()):
        pair = [patches[side][key] for side in ("HE", "IHC") if key in patches[side]]
        if len(pair) < 2:
            missing = "IHC" if key in patches["HE"] else "HE"
            problems.append(f"{pair[0][1].relative_to(source)}: its {missing} partner is missing")
            continue
        if pair[0][0] != pair[1][0]:
            problems.append(f"{pair[0][1].relative_to(source)}: score {pair[0][0]}, its IHC partner {pair[1][0]}")
        case = f"bci-{key[0]}-{key[1]}"
        rows += [
            {
                "patient_id": case,
                "case_id": case,
                "slide_id": f"{case}-{stain}",
                "stain": stain,
                "path": str(path),
                "mpp": f"{mpp or cohort.mpp:g}",
                "label_HER2": score,
            }
            for stain, (score, path) in zip(("HE", "HER2"), pair, strict=True)
        ]
    if problems:
        raise manifest.refused(cohort, source, problems)
    return manifest.write(rows, out, root)
