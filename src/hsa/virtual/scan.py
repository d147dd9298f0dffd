"""A virtual cohort on disk: pyramidal TIFF slides, the manifest that a study reads, the truth beside it."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tifffile

from hsa.errors import InputError
from hsa.files import read_json, replacing, write_frame, write_json
from hsa.fingerprint import fingerprint
from hsa.virtual.cells import is_tumour
from hsa.virtual.markers import programme
from hsa.virtual.recipe import HE, MPP, Recipe, is_second, photograph, section_truth, stain_number
from hsa.virtual.specimen import STEP
from hsa.workers import bar, run

READERS = 3  # who call each IHC slide, each for himself; the label is what most of them say

# What the truth holds of each marker, besides the tumour cells of its slide.
CALLED = ("z", "expected", "fraction", "read", "calls", "true", "label")


def make_cohort(
    folder: Path,
    *,
    cases: int,
    slide_px: int,
    markers: list[str],
    strength: float,
    seed: int,
    workers: int = 1,
    progress: bool = False,
) -> Path:
    """Make a cohort of virtual specimens, one H&E slide and one slide per marker each.

    Cases whose slides are already there, whole and made by this code with these settings are kept, so an
    interrupted run goes on where it stopped. The bytes do not depend on `workers`, nor does a case depend
    on how many cases or markers are asked for.

    Args:
        folder: receives `slides/<slide_id>.tif`, `manifest.csv` and `truth.csv`.
        cases: how many cases.
        slide_px: width and height of a slide at 0.5 um/px, a multiple of 4, at least 256.
        markers: names from `hsa.virtual.markers.MARKERS`.
        strength: how strongly markers imprint on H&E; 0 leaves no label information there.
        seed: of everything.
        workers: processes.
        progress: show a bar over the cases.

    Returns:
        The path of `manifest.csv`.

    Raises:
        InputError: an unknown marker, or a size or strength that makes no sense.
    """
    _check(cases, slide_px, markers, strength)
    folder, recipe = Path(folder), Recipe(slide_px, float(strength), seed)
    mark = fingerprint(asdict(recipe), __name__)
    records: dict[int, dict[str, Any]] = {}
    for index in range(cases):
        record = _kept(folder, index, markers, mark)
        if record is not None:
            records[index] = record
    missing = [index for index in range(cases) if index not in records]
    with bar(total=cases, initial=len(records), desc="virtual cases", unit="case", progress=progress) as shown:
        jobs = [partial(make_case, folder, recipe, index, markers, mark) for index in missing]
        for record in run(jobs, workers):
            records[record["index"]] = record
            shown.update()
    ordered = [records[index] for index in range(cases)]
    write_frame(folder / "truth.csv", _truth_frame(ordered, markers, list(recipe.case(0).latents)))
    manifest = folder / "manifest.csv"
    write_frame(manifest, _manifest_frame(ordered, markers))
    return manifest


def write_slide(path: Path, image: np.ndarray, mpp: float = MPP) -> None:
    """Write RGB as a pyramidal tiled JPEG TIFF of three levels that OpenSlide opens with its mpp."""
    per_cm = 1e4 / mpp
    with replacing(path) as temporary, tifffile.TiffWriter(temporary) as tiff:
        for level in range(3):
            tiff.write(
                image,
                tile=(256, 256),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": 87},
                resolution=(per_cm / 2**level, per_cm / 2**level),
                resolutionunit="CENTIMETER",
                subfiletype=int(level > 0),
                software="hsa virtual tissue",
                metadata=None,
            )
            h, w = (side // 2 * 2 for side in image.shape[:2])
            quads = image[:h, :w].reshape(h // 2, 2, w // 2, 2, 3)
            image = quads.mean((1, 3), dtype=np.float32).round().astype(np.uint8)


def make_case(folder: Path, recipe: Recipe, index: int, markers: list[str], mark: str) -> dict[str, Any]:
    """Make the slides of one case and its record, which holds its truth and the sizes of its slides."""
    case, case_id = recipe.case(index), _case_id(index)
    layout = recipe.layout(index)
    truth: dict[str, Any] = {}
    sizes = {}
    for name in (HE, *markers):
        section = section_truth(recipe, index, name, layout)
        path = folder / "slides" / f"{case_id}-{name}.tif"
        write_slide(path, photograph(recipe, index, name, section))
        sizes[name] = path.stat().st_size
        truth[f"tumour_cells_{name}"] = int(is_tumour(section.cells).sum())
        if name == HE:
            continue
        marker = programme(name)
        rngs = (recipe.rng(5, index, stain_number(name), reader) for reader in range(READERS))
        reads, calls = zip(*(marker.read(section.fraction, rng) for rng in rngs), strict=True)
        truth |= {
            f"z_{name}": case.scores[name],
            f"expected_{name}": case.fractions[name],
            f"fraction_{name}": section.fraction,
            f"read_{name}": float(np.median(reads)),
            f"calls_{name}": sum(calls),
            f"true_{name}": marker.call(section.fraction),
            f"label_{name}": int(sum(calls) > READERS / 2),
        }
    truth |= {f"latent_{name}": value for name, value in case.latents.items()}
    record = {"stamp": mark, "index": index, "sizes": sizes, "truth": truth}
    write_json(_record_path(folder, index), record)
    return record


def _kept(folder: Path, index: int, markers: list[str], mark: str) -> dict[str, Any] | None:
    """The record of a case whose slides can be kept, else None."""
    path = _record_path(folder, index)
    if not path.exists():
        return None
    record = read_json(path)
    if record.get("stamp") != mark:
        return None
    for name in (HE, *markers):
        slide = folder / "slides" / f"{_case_id(index)}-{name}.tif"
        if not slide.exists() or slide.stat().st_size != record["sizes"].get(name):
            return None
    return record


def _check(cases: int, slide_px: int, markers: list[str], strength: float) -> None:
    for marker in markers:
        programme(marker)
    if not markers or len(set(markers)) != len(markers):
        raise InputError(f"cohort.markers: {markers} must name at least one marker, each once.")
    if cases < 1:
        raise InputError(f"cohort.cases: {cases} must be at least 1.")
    if slide_px < 256 or slide_px % STEP:
        raise InputError(f"cohort.slide_px: {slide_px} must be a multiple of {STEP}, at least 256.")
    if not 0 <= strength < np.inf:
        raise InputError(f"cohort.strength: {strength} must be 0 (no imprint) or a positive number.")


def _truth_frame(records: list[dict[str, Any]], markers: list[str], latents: list[str]) -> pd.DataFrame:
    """The truth of each case, in the order in which it is found out: a record that was kept has it by the alphabet."""
    columns = [f"tumour_cells_{HE}"]
    for name in markers:
        columns += [f"tumour_cells_{name}", *(f"{what}_{name}" for what in CALLED)]
    columns += [f"latent_{name}" for name in latents]
    rows = []
    for record in records:
        index, truth = record["index"], record["truth"]
        rows.append(
            {"patient_id": _patient_id(index), "case_id": _case_id(index), **{key: truth[key] for key in columns}}
        )
    return pd.DataFrame(rows)


def _manifest_frame(records: list[dict[str, Any]], markers: list[str]) -> pd.DataFrame:
    rows = []
    for record in records:
        case_id = _case_id(record["index"])
        labels = {f"label_{marker}": record["truth"][f"label_{marker}"] for marker in markers}
        for name in (HE, *markers):
            slide_id = f"{case_id}-{name}"
            rows.append(
                {
                    "patient_id": _patient_id(record["index"]),
                    "case_id": case_id,
                    "slide_id": slide_id,
                    "stain": name,
                    "path": f"slides/{slide_id}.tif",
                    "mpp": MPP,
                    **labels,
                }
            )
    return pd.DataFrame(rows)


def _patient_id(index: int) -> str:
    return f"P{index - is_second(index):04d}"


def _case_id(index: int) -> str:
    return f"C{index:04d}"


def _record_path(folder: Path, index: int) -> Path:
    return folder / "records" / f"{_case_id(index)}.json"
