"""BCNB (bupt-ai-cz.github.io/BCNB): H&E slides of core-needle biopsies with ER, PR, HER2 and Ki-67, no IHC."""

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from hsa.cohorts.public import convert, manifest, registry
from hsa.errors import InputError
from hsa.files import read_rows
from hsa.slides.readers import too_large

TABLE = "patient-clinical-data"
STATUS = {"positive": "1", "negative": "0"}
_INDEX = re.compile(r"([<>≤≥＜＞]?)(\d+(?:\.\d+)?)(%?)(?:[-–~－～](\d+(?:\.\d+)?)(%?))?")


def import_cohort(
    source: str | Path, out: str | Path, root: str | Path | None = None, mpp: float | None = None
) -> Path:
    """Write the manifest of BCNB as distributed.

    ER, PR and HER2 are the table's status (1 positive, 0 negative; HER2 as the owners concluded, not the
    score). Ki-67 is in percent. Images whose name is no number are left out: the distribution holds one. A
    slide converted by `convert_large` goes before the JPEG of that name.

    Args:
        source: folder of `patient-clinical-data.xlsx` (or a .csv saved from it) and of `WSIs/`, at any depth.
        out: folder for manifest.csv.
        root: see `hsa.cohorts.public.manifest.write`.
        mpp: um/px of the JPEG files. The default is an assumption, see the registry.

    Returns:
        The manifest's path.

    Raises:
        InputError: lists all problems, the layout that was expected and where to get the data.
    """
    cohort = registry.get("bcnb")
    source = manifest.check_source(cohort, source)
    problems = registry.bad_checksums(cohort, source)
    images, wrong = _images(source)
    problems += wrong
    if not images:
        problems.append("no slides such as WSIs/1.jpg")
    patients, wrong = _patients(source)
    problems += wrong
    large = []
    for path in images.values():
        try:
            large += [path] * _too_large(path)
        except InputError as error:
            problems.append(str(error))
    if large:
        problems.append(
            f"{large[0].relative_to(source)} and {len(large) - 1} more have too many pixels to be decoded whole at "
            "each reading. Make tiled TIFFs of them: `hsa cohort convert FOLDER`."
        )
    if patients and images:
        problems += [f"WSIs/{i}.jpg is missing, the table has patient {i}" for i in patients if i not in images]
        problems += [f"WSIs/{i}.jpg has no row in the table" for i in images if i not in patients]
    if problems:
        raise manifest.refused(cohort, source, problems)
    rows = [
        {
            "patient_id": f"bcnb-{i}",
            "case_id": f"bcnb-{i}",
            "slide_id": f"bcnb-{i}-HE",
            "stain": "HE",
            "path": str(images[i]),
            "mpp": f"{mpp or cohort.mpp:g}",
            **patients[i],
        }
        for i in sorted(patients, key=int)
    ]
    return manifest.write(rows, out, root)


def convert_large(source: str | Path, mpp: float | None = None) -> Iterator[Path]:
    """Write a tiled TIFF beside each JPEG slide that is too large for a picture; those that are there are kept.

    Args:
        source: as for `import_cohort`.
        mpp: um/px of the JPEG files. The default is an assumption, see the registry.

    Yields:
        Each TIFF that was written.
    """
    cohort = registry.get("bcnb")
    resolution = mpp or cohort.mpp
    if resolution is None:
        raise InputError("bcnb: nobody says the resolution of its slides; give um/px.")
    for path in _images(manifest.check_source(cohort, source))[0].values():
        if _too_large(path):
            convert.jpeg_to_tiff(path, path.with_suffix(".tif"), resolution)
            yield path.with_suffix(".tif")


def ki67_percent(text: str) -> float | None:
    """Read a Ki-67 index as the table has it, in percent.

    A cell is a share (0.15, as Excel stores 15 %) or a text with a percent sign (15%, 10%-20%, >50%, <5%). A
    range counts by its lower bound, so that it is positive at a cut-off only if all of it is.

    Returns:
        Percent, 0 to 100; None for an empty cell.

    Raises:
        ValueError: the cell is neither.
    """
    text = re.sub(r"\s", "", text).replace("％", "%")
    if not text:
        return None
    match = _INDEX.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is no share and no percentage")
    bound, low, sign, _, last_sign = match.groups()
    value = float(low) if sign or last_sign else 100 * float(low)
    if value > 100:
        raise ValueError(f"{text!r} is more than 100 %; write a share (0.15) or a percentage (15%)")
    return 0.0 if bound in "<≤＜" and bound else round(value, 4)


def _images(source: Path) -> tuple[dict[str, Path], list[str]]:
    """Find the slides: patient number -> TIFF, or else JPEG; and those of which there are two."""
    images: dict[str, Path] = {}
    problems = []
    for path in manifest.files(source, ".jpg", ".jpeg", ".tif"):
        if path.parent.name != "WSIs" or not path.stem.isdigit():
            continue
        other = images.get(path.stem)
        if other is None or (other.parent == path.parent and path.suffix == ".tif"):
            images[path.stem] = path
        else:
            problems.append(f"{path.relative_to(source)}: the same slide as {other.relative_to(source)}. Keep one.")
    return images, problems


def _too_large(path: Path) -> bool:
    return path.suffix != ".tif" and too_large(*convert.jpeg_size(path))


def _patients(source: Path) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Read the clinical table: patient number -> labels; and what is wrong with it."""
    frame = _table(source)
    if frame is None:
        return {}, [f"{TABLE}.xlsx (or .csv) is missing: it holds the labels"]
    wanted = ["Patient ID", "ER", "PR", "HER2", "Ki67"]
    absent = [column for column in wanted if column not in frame]
    if absent:
        return {}, [f"{TABLE}: column {column!r} is missing, found {', '.join(frame.columns)}" for column in absent]
    patients, problems = {}, []
    for number, row in zip(frame.index, frame[wanted].to_dict("records"), strict=True):
        name = re.sub(r"\.0$", "", row["Patient ID"].strip())
        where = f"{TABLE}, row {number}"
        if not name.isdigit():
            problems.append(f"{where}: Patient ID {name!r} is not a number")
            continue
        if name in patients:
            problems.append(f"{where}: Patient ID {name} stands in more than one row")
        labels = {}
        for marker in ("ER", "PR", "HER2"):
            value = row[marker].strip()
            if value and value.lower() not in STATUS:
                problems.append(f"{where}: {marker} {value!r} is not Positive or Negative")
            labels[f"label_{marker}"] = STATUS.get(value.lower(), "")
        try:
            index = ki67_percent(row["Ki67"])
        except ValueError as error:
            problems.append(f"{where}: Ki67 {error}")
        else:
            labels["label_Ki-67"] = "" if index is None else f"{index:g}"
        patients[name] = labels
    return patients, problems


def _table(source: Path) -> pd.DataFrame | None:
    """Read the clinical table, all cells as text. A CSV goes before a workbook: someone saved it on purpose."""
    for path in sorted(source.rglob(f"{TABLE}.csv")):
        return read_rows(path)
    for path in sorted(source.rglob(f"{TABLE}.xlsx")):
        try:
            frame = pd.read_excel(path, dtype=str, keep_default_na=False, engine="openpyxl")
            return frame.set_axis(frame.index + 2)
        except (zipfile.BadZipFile, KeyError, OSError, ValueError) as error:
            raise InputError(f"{path}: not a readable workbook ({error}): download it again.") from error
        except ImportError as error:
            raise InputError(
                f"{path}: reading .xlsx needs openpyxl. Type `pip install 'hsa[public]'`, or save the sheet as "
                f"{TABLE}.csv beside it."
            ) from error
    return None
