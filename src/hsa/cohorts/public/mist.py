"""MIST (github.com/lifangda01/AdaptiveSupervisedPatchNCE): aligned patches in H&E and four stains, no labels."""

import re
from pathlib import Path

from hsa.cohorts.public import manifest, registry

STAINS = {"ER": "ER", "PR": "PR", "HER2": "HER2", "Ki67": "Ki-67"}
_FOLDER = re.compile(r"(train|val)([AB])")
_NAME = re.compile(r"([A-Za-z0-9.-]+)_\d+_\d+")


def import_cohort(
    source: str | Path, out: str | Path, root: str | Path | None = None, mpp: float | None = None
) -> Path:
    """Write the manifest of MIST as distributed: a case a pair of patches, without labels.

    A patch is named SLIDE_ROW_COLUMN; patches of one slide, in whatever stain, count as one patient, so that
    folds do not share a slide.

    Args:
        source: folder that holds ER/, PR/, HER2/ and Ki67/, or some of them, at any depth.
        out: folder for manifest.csv.
        root: see `hsa.cohorts.public.manifest.write`.
        mpp: um/px of the patches. The default is an assumption, see the registry.

    Returns:
        The manifest's path.

    Raises:
        InputError: lists all problems, the layout that was expected and where to get the data.
    """
    cohort = registry.get("mist")
    source = manifest.check_source(cohort, source)
    problems = registry.bad_checksums(cohort, source)
    patches: dict[tuple[str, str], dict[str, Path]] = {}
    for path in manifest.files(source, ".jpg", ".jpeg", ".png"):
        where, folder = path.relative_to(source), _FOLDER.fullmatch(path.parent.name)
        token = path.parent.parent.parent.name
        if not folder or path.parent.parent.name != "TrainValAB":
            problems.append(f"{where}: not in STAIN/TrainValAB/trainA, trainB, valA or valB")
            continue
        if token not in STAINS:
            problems.append(f"{where}: unknown stain {token!r}. Known: {', '.join(STAINS)}.")
            continue
        if not _NAME.fullmatch(path.stem):
            problems.append(f"{where}: the name is not SLIDE_ROW_COLUMN, so its patient is unknown")
            continue
        pair = patches.setdefault((token, path.stem), {})
        if folder[2] in pair:
            problems.append(f"{where}: the same patch as {pair[folder[2]].relative_to(source)}. Keep one.")
        pair.setdefault(folder[2], path)
    if not patches:
        problems.append("no patches such as Ki67/TrainValAB/trainA/67M2100642_15_18.jpg")
    rows = []
    for (token, stem), pair in sorted(patches.items()):
        if len(pair) == 1:
            there = next(iter(pair.values())).relative_to(source)
            problems.append(f"{there}: its {'H&E' if 'B' in pair else token} partner is missing")
            continue
        case = f"mist-{token}-{stem}"
        rows += [
            {
                "patient_id": f"mist-{stem.rsplit('_', 2)[0]}",
                "case_id": case,
                "slide_id": f"{case}-{'HE' if side == 'A' else 'IHC'}",
                "stain": "HE" if side == "A" else STAINS[token],
                "path": str(pair[side]),
                "mpp": f"{mpp or cohort.mpp:g}",
            }
            for side in "AB"
        ]
    if problems:
        raise manifest.refused(cohort, source, problems)
    return manifest.write(rows, out, root)
