"""A marker that shows in foci only: kinds of specimens whose tiles are composed into the bags of a focal cohort.

A *background* specimen tells nothing of the marker. In a *focus* the H&E morphology that the marker imprints is raised,
and the tumour cells of the IHC section are positive. In an *other* focus another programme's morphology is raised and
nothing stains: negative cases have such foci, so that to see a focus is not to know the label.

Specimens belong to one part of the folds and to one laboratory, whose stains and scanner they share.
"""

from dataclasses import dataclass, replace

import numpy as np

from hsa.virtual.markers import LATENTS, MARKERS, programme
from hsa.virtual.optics import Batch, draw_batch
from hsa.virtual.recipe import HE, TWICE_EVERY, Recipe, stain_number
from hsa.virtual.specimen import Case

KINDS = ("background", "focus", "other")
POSITIVE = 0.9  # share of the tumour cells that stain in a focus


@dataclass(frozen=True)
class Specimen:
    """One specimen of a bank.

    Attributes:
        number: from 0; its seeds follow from it.
        part: of the folds.
        lab: laboratory.
        kind: one of `KINDS`.
    """

    number: int
    part: int
    lab: int
    kind: str


def specimens(parts: int, labs: int, counts: dict[str, int]) -> list[Specimen]:
    """List the specimens of a bank: so many of each kind in every part and laboratory."""
    kinds = [kind for kind in KINDS for _ in range(counts[kind])]
    places = [(part, lab, kind) for part in range(parts) for lab in range(labs) for kind in kinds]
    return [Specimen(number, *place) for number, place in enumerate(places)]


@dataclass(frozen=True)
class FocalRecipe(Recipe):
    """What determines the specimens of a bank.

    Attributes:
        marker: that shows in foci.
        shift: by how much a focus raises the latents of its programme, in SDs of the latent of the largest weight.
        listed: the specimens; `case` is asked for by `index_of`.
    """

    marker: str = "P53"
    shift: float = 2.0
    listed: tuple[Specimen, ...] = ()

    def case(self, index: int) -> Case:
        """Latents of the specimen behind an index: what its kind raises, on what chance gave it."""
        plain, one = super().case(index), self.listed[index // TWICE_EVERY]
        raised = {} if one.kind == "background" else self.imprint(one.kind)
        latents = {name: value + self.shift * raised.get(name, 0.0) for name, value in plain.latents.items()}
        low, high = programme(self.marker).wild_type
        share = POSITIVE if one.kind == "focus" else low + (high - low) * self.rng(6, index).random()
        return replace(plain, latents=latents, fractions={**plain.fractions, self.marker: share})

    def imprint(self, kind: str) -> dict[str, float]:
        """Latents that a focus raises, the largest by 1: those of the marker, or of one that shares none with it."""
        own = MARKERS[self.marker].imprint
        if kind == "other":
            own = next(one.imprint for one in MARKERS.values() if not set(one.imprint) & set(own))
        largest = max(own.values())
        return {name: weight / largest for name, weight in own.items() if name in LATENTS}

    def batch(self, one: Specimen, stain: str) -> Batch:
        """Stains and scanner of the laboratory of a specimen."""
        return draw_batch(self.rng(5, one.lab, stain_number(stain)), stain != HE)


def index_of(one: Specimen) -> int:
    """Give the index of a specimen in its recipe: none is the second one of a patient."""
    return one.number * TWICE_EVERY


def tile_shares(field: np.ndarray, tiles: int) -> np.ndarray:
    """Mean of a picture (h, w) in each tile of a square grid, row by row (tiles * tiles,)."""
    side = field.shape[0] // tiles
    cut = field[: side * tiles, : side * tiles].reshape(tiles, side, tiles, side)
    return np.asarray(cut.mean(axis=(1, 3))).ravel()
