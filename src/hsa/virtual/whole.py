"""Whole sections with a focus in them, for pictures and maps: a specimen painted plain but for a patch of its tumour.

The cells inside the patch are those of the specimen painted as a focus, the others those of the plain one. All sections
of the specimen have the patch at the same place of the tissue, up to the small turn and shift of a cut, and none shares
a cell with another.
"""

from dataclasses import dataclass, replace

import numpy as np

from hsa.errors import InputError
from hsa.virtual.cells import is_tumour
from hsa.virtual.foci import FOCUS, PLAIN, FocalRecipe, Specimen, index_of
from hsa.virtual.recipe import HE, SectionTruth, photograph, section_truth
from hsa.virtual.specimen import FIELDS, STEP


@dataclass(frozen=True)
class Whole:
    """A section with a focus.

    Attributes:
        picture: uint8 RGB (px, px, 3).
        truth: its cells and tumour.
        focus: the patch (h, w), bool, at the resolution of `truth.tumour`.
    """

    picture: np.ndarray
    truth: SectionTruth
    focus: np.ndarray

    @property
    def positive_shares(self) -> tuple[float, float]:
        """Shares of the tumour cells that are positive, in the patch and outside of it; NaN where it holds none."""
        cells = self.truth.cells[is_tumour(self.truth.cells)]
        positive, inside = (cells["dab"] > 0) | (cells["ring"] > 0), _within(cells, self.truth.section.px, self.focus)
        there, elsewhere = (float(positive[at].mean()) if at.any() else np.nan for at in (inside, ~inside))
        return there, elsewhere


def paint(recipe: FocalRecipe, one: Specimen, stain: str, share: float, kind: str = FOCUS) -> Whole:
    """Paint a section whose tumour shows a focus in one patch.

    Args:
        recipe: of the specimens; its own kind does not count.
        one: which specimen.
        stain: "HE" or the marker.
        share: of the tumour that lies in the patch, 0 to 1.
        kind: of the focus: the marker's, or the other.

    Raises:
        InputError: the specimen has no tumour.
    """
    index = index_of(one)
    layout = recipe.layout(index)
    plain, changed = (section_truth(replace(recipe, kind=way), index, stain, layout) for way in (PLAIN, kind))
    focus = patch(plain.tumour, share, _centre(layout, recipe, index))
    inside = [_within(one.cells, one.section.px, focus) for one in (plain, changed)]
    cells = np.concatenate([plain.cells[~inside[0]], changed.cells[inside[1]]])
    tumour = cells[is_tumour(cells)]
    fraction = np.nan if stain == HE or not len(tumour) else float(((tumour["dab"] > 0) | (tumour["ring"] > 0)).mean())
    truth = SectionTruth(plain.section, cells, fraction)
    return Whole(photograph(recipe, index, stain, truth, recipe.batch(one, stain)), truth, focus)


def patch(tumour: np.ndarray, share: float, centre: tuple[float, float]) -> np.ndarray:
    """Choose a patch: the part of the tumour (h, w) nearest to a place, and what lies between; bool (h, w).

    Args:
        tumour: bool (h, w).
        share: of the tumour that the patch holds.
        centre: the place, row and column.

    Raises:
        InputError: there is no tumour.
    """
    if not tumour.any():
        raise InputError("this specimen has no tumour in which a focus could lie; take another.")
    distance = np.hypot(*(np.indices(tumour.shape) - np.reshape(centre, (2, 1, 1))))
    return np.asarray(distance <= np.quantile(distance[tumour], share))


def _centre(layout: np.ndarray, recipe: FocalRecipe, index: int) -> tuple[float, float]:
    """Draw a place in the tumour of the specimen, in samples of its sections: the same for all of them."""
    field = dict(zip(FIELDS, layout, strict=True))
    tumour = (np.minimum(field["epithelium"], field["tissue"]) > 0) & (
        np.maximum(field["lumen"], field["necrosis"]) < 0
    )
    side, half = layout.shape[1], recipe.slide_px / STEP / 2
    middle = slice(int(side / 2 - 0.7 * half), int(side / 2 + 0.7 * half))  # so that the patch lies in the section
    places = np.argwhere(tumour[middle, middle])
    row, column = places[int(recipe.rng(7, index).random() * len(places))] if len(places) else (0.7 * half, 0.7 * half)
    return 0.3 * half + row, 0.3 * half + column


def _within(cells: np.ndarray, px: int, focus: np.ndarray) -> np.ndarray:
    """Which cells of a section of px by px lie in the patch (N,), bool."""
    place = [np.clip((cells[axis] * len(focus) / px).astype(int), 0, len(focus) - 1) for axis in ("y", "x")]
    return np.asarray(focus[tuple(place)])
