"""Steps 1 and 2 of a focal cohort: a bank of rendered tiles, and the bags that are composed from it.

Every tile of the bank is there three times: plain, as a focus of the marker, and as a focus of another kind. The bank
is made once for all studies that differ in nothing that it depends on, such as those of several shares of foci. It lies
in `results/banks/`, a file a specimen, stain and kind, and a list of its tiles for each part and laboratory.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from hsa.bags.bag import Bag, read_bag, write_bag
from hsa.cohorts.cohort import Cohort
from hsa.cohorts.manifest import HE
from hsa.errors import InputError
from hsa.files import read_json, write_frame, write_json
from hsa.fingerprint import fingerprint
from hsa.study.settings import FocalCohort
from hsa.study.study import Study
from hsa.workers import bar
from hsa.workers import run as in_processes

TISSUE = 0.5  # share of a tile that must be tissue
_BANK = ("shift", "specimen_px", "labs", "specimens", "seed")


def focal_cohort(study: Study) -> Cohort:
    """Describe the cases of a focal cohort: which part of the folds tests them, and their labels; nothing is made.

    Raises:
        InputError: the study's cohort is of another kind, or its folds are not as many as it can be dealt into.
    """
    chosen, (marker, kind) = _settings(study), next(iter(study.markers.items()))
    number = np.arange(chosen.cases)
    names = [f"F{i:04}" for i in number]
    slides = pd.DataFrame(
        [
            {"patient_id": name, "case_id": name, "slide_id": f"{name}-{stain}", "stain": stain, "path": "", "mpp": 0.5}
            for name in names
            for stain in (HE, marker)
        ]
    )
    parts = study.evaluation.folds
    label = pd.DataFrame({marker: (number // parts // chosen.labs % 2).astype(float)}, index=names)
    return Cohort(slides, label, pd.Series(number % parts, index=names), {marker: kind})


def make_focal(study: Study, workers: int = 1, progress: bool = True) -> Cohort:
    """Make the bank, if it is not there, and compose the bags of the cohort from it.

    Raises:
        InputError: as `focal_cohort`, the bank is too small for the cases, or the marker cannot show in foci.
    """
    from hsa.virtual.composing import compose
    from hsa.virtual.foci import FOCUS, KINDS, OTHER, PLAIN

    chosen, cohort, mark = _settings(study), focal_cohort(study), study.paths.bags / "made.json"
    marker = next(iter(study.markers))
    folder, current = make_bank(study, workers, progress), _stamp(study)
    if mark.is_file() and read_json(mark).get("stamp") == current:
        return cohort
    bank = _listed(folder)
    size = study.tiles.size_px
    made = compose(bank, chosen.cases, chosen.tiles, chosen.share, chosen.seed, chosen.regions, size)
    attrs = {"tile_px": size, "tile_px_level0": size, "mpp": 0.5, "encoder": study.encoder.name, "stamp": current}
    for stain in (HE, marker):
        held = {kind: _held(folder, bank, stain, kind) for kind in KINDS}
        for case in bar(made, desc=f"bags, {stain}", progress=progress):
            features, colours = (one[case.rows] for one in held[PLAIN])
            changed = held[FOCUS if case.label else OTHER]
            features[case.focus], colours[case.focus] = (one[case.rows[case.focus]] for one in changed)
            name = f"{case.case_id}-{stain}"
            bag = Bag(features, case.coords, {"slide_id": name, **attrs}, colours)
            write_bag(study.paths.bags / f"{name}.h5", bag)
    told = [{"case_id": case.case_id, "tile": i} for case in made for i in np.flatnonzero(case.focus)]
    write_frame(study.paths.bags / "foci.csv", pd.DataFrame(told))
    write_json(mark, {"slides": len(cohort.slides), "stamp": current})
    return cohort


def make_bank(study: Study, workers: int = 1, progress: bool = True) -> Path:
    """Render and encode the specimens of a study's bank, those that are missing; give its folder.

    Each part of the folds and laboratory is a job of its own, kept as it ends.
    """
    from hsa.virtual.foci import FocalRecipe, specimens

    chosen = _settings(study)
    FocalRecipe(chosen.specimen_px, 0.0, chosen.seed, next(iter(study.markers))).check()
    parts = [chosen.model_dump(include=set(_BANK)), study.tiles.size_px, study.encoder.model_dump(exclude={"batch"})]
    current = fingerprint([*parts, list(study.markers), study.evaluation.folds], __name__)
    folder = study.paths.data.parent / "banks" / current
    every = specimens(study.evaluation.folds, chosen.labs, chosen.specimens)
    jobs = []
    for part in range(study.evaluation.folds):
        for lab in range(chosen.labs):
            path = folder / f"part{part}-lab{lab}.parquet"
            if not path.is_file():
                own = [one for one in every if (one.part, one.lab) == (part, lab)]
                jobs.append(partial(_shard, study, path, own))
    for _ in bar(in_processes(jobs, workers), total=len(jobs), desc="bank of tiles", progress=progress):
        pass
    return folder


def _shard(study: Study, path: Path, own: Sequence) -> None:
    from hsa.bags.opened import colours
    from hsa.encoders.encoder import tile_encoder
    from hsa.virtual.foci import KINDS, FocalRecipe, index_of, tile_shares
    from hsa.virtual.recipe import photograph, section_truth

    chosen, marker, size = _settings(study), next(iter(study.markers)), study.tiles.size_px
    recipe = FocalRecipe(chosen.specimen_px, 0.0, chosen.seed, marker, chosen.shift)
    encode = tile_encoder(study.encoder.name, study.encoder.runtime)
    across, rows = chosen.specimen_px // size, []
    for one in own:
        index = index_of(one)
        layout = recipe.layout(index)
        section = section_truth(recipe, index, HE, layout)
        tissue = section.section.at("tissue")[: len(section.tumour), : len(section.tumour)] > 0
        kept = np.flatnonzero(tile_shares(tissue, across) >= TISSUE)  # the IHC tiles are those of the same places
        corners = np.stack([kept % across, kept // across], axis=1)
        for kind in KINDS:
            painted = replace(recipe, kind=kind)
            for stain in (HE, marker):
                truth = section_truth(painted, index, stain, layout)
                picture = photograph(painted, index, stain, truth, recipe.batch(one, stain))
                tiles = np.stack([picture[y * size : (y + 1) * size, x * size : (x + 1) * size] for x, y in corners])
                parts = [encode(tiles[start : start + 32]) for start in range(0, len(tiles), 32)]
                attrs = {"tile_px": size, "tile_px_level0": size}
                bag = Bag(np.concatenate(parts).astype(np.float16), corners * size, attrs, colours(tiles))
                write_bag(_file(path.parent, one.number, stain, kind), bag)
        tumour = tile_shares(section.tumour, across)[kept]
        for (x, y), share in zip(corners.tolist(), tumour.tolist(), strict=True):
            place = {"specimen": one.number, "part": one.part, "lab": one.lab}
            rows.append(place | {"column": x, "row": y, "tumour": share})
    write_frame(path, pd.DataFrame(rows))


def _file(folder: Path, specimen: int, stain: str, kind: str) -> Path:
    return folder / f"S{specimen:04}-{stain}-{kind}.h5"


def bank_tiles(study: Study, workers: int = 1, progress: bool = True) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """List the tiles of a study's bank, made if it is not there, and give their H&E features (n, D) by kind."""
    from hsa.virtual.foci import KINDS

    folder = make_bank(study, workers, progress)
    bank = _listed(folder)
    return bank, {kind: _held(folder, bank, HE, kind)[0] for kind in KINDS}


def _listed(folder: Path) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(path) for path in sorted(folder.glob("*.parquet"))], ignore_index=True)


def _held(folder: Path, bank: pd.DataFrame, stain: str, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Features and colours of all tiles of the bank, in its order."""
    bags = [read_bag(_file(folder, specimen, stain, kind)) for specimen in bank["specimen"].unique()]
    painted = [bag.colours for bag in bags if bag.colours is not None]
    return np.concatenate([bag.features for bag in bags]), np.concatenate(painted)


def _settings(study: Study) -> FocalCohort:
    if not isinstance(study.cohort, FocalCohort):
        raise InputError(f"{study.file}: cohort.kind: {study.cohort.kind}; a bank of tiles is for a focal cohort.")
    return study.cohort


def _stamp(study: Study) -> str:
    parts = study.model_dump(mode="json")
    settings = [parts["cohort"], parts["tiles"], parts["encoder"], list(study.markers), study.evaluation.folds]
    return fingerprint(settings, __name__)
