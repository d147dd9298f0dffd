"""Whole sections with a focus in them, for pictures and maps: a specimen painted plain but for a patch of its tumour.

The cells inside the patch are those of the specimen painted as a focus, the others those of the plain one. All sections
of the specimen have the patch at the same place of the tissue, up to the small turn and shift of a cut, and none shares
a cell with another.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from hsa.errors import InputError
from hsa.virtual.cells import is_tumour
from hsa.virtual.foci import FOCUS, PLAIN, FocalRecipe, Specimen, index_of
from hsa.virtual.recipe import HE, SectionTruth, photograph, section_truth


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
    focus = patch(plain.tumour, share, recipe.rng(7, index))
    cells = np.concatenate([plain.cells[~_inside(plain, focus)], changed.cells[_inside(changed, focus)]])
    tumour = cells[is_tumour(cells)]
    fraction = np.nan if stain == HE or not len(tumour) else float(((tumour["dab"] > 0) | (tumour["ring"] > 0)).mean())
    truth = SectionTruth(plain.section, cells, fraction)
    return Whole(photograph(recipe, index, stain, truth, recipe.batch(one, stain)), truth, focus)


def patch(tumour: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Choose a patch: the part of the tumour (h, w) nearest to a point deep in it, and what lies between; bool (h, w).

    Args:
        tumour: bool (h, w).
        share: of the tumour that the patch holds.
        rng: draws the point, as a share of the tumour from its top, so that all sections have it at about one place.
    """
    if not tumour.any():
        raise InputError("this specimen has no tumour in which a focus could lie; take another.")
    places = np.argwhere(tumour)
    deep = places[ndimage.distance_transform_edt(np.pad(tumour, 1))[1:-1, 1:-1][tumour] > 2]
    places = places if not len(deep) else deep
    start = places[int(rng.random() * len(places))]
    distance = np.hypot(*(np.indices(tumour.shape) - start[:, None, None]))
    return np.asarray(distance <= np.quantile(distance[tumour], share))


def _inside(truth: SectionTruth, focus: np.ndarray) -> np.ndarray:
    """Which cells of a section lie in the patch (N,), bool."""
    scale = focus.shape[0] / truth.section.px
    place = [np.clip((truth.cells[axis] * scale).astype(int), 0, focus.shape[0] - 1) for axis in ("y", "x")]
    return np.asarray(focus[tuple(place)])
