"""A marker that shows in foci only: specimens painted plain and changed, whose tiles make the bags of a cohort.

Every specimen is painted in three ways. *Plain*, it tells nothing of the marker. As a *focus*, the H&E morphology that
the marker imprints is raised, and the tumour cells of the IHC section are positive. As an *other* focus another
programme's morphology is raised and nothing stains: negative cases have such foci, so that to see a focus is not to
know the label. The tissue, the cut, the stains and the scanner are the same in all three, so a focus that is set into a
plain specimen shows no seam but its cells.

Specimens belong to one part of the folds and to one laboratory, whose stains and scanner they share.
"""

from dataclasses import dataclass, replace

import numpy as np

from hsa.errors import InputError
from hsa.virtual.markers import LATENTS, MARKERS, programme
from hsa.virtual.optics import Batch, draw_batch
from hsa.virtual.recipe import HE, TWICE_EVERY, Recipe, stain_number
from hsa.virtual.specimen import Case, draw_layout

PLAIN, FOCUS, OTHER = KINDS = ("plain", "focus", "other")
POSITIVE = 0.9  # share of the tumour cells that stain in a focus
_SMALL = 384  # px: of the tissue on which it is tried whether a programme moves the layout


@dataclass(frozen=True)
class Specimen:
    """One specimen of a bank.

    Attributes:
        number: from 0; its seeds follow from it.
        part: of the folds.
        lab: laboratory.
    """

    number: int
    part: int
    lab: int


def specimens(parts: int, labs: int, count: int) -> list[Specimen]:
    """List the specimens of a bank: so many in every part and laboratory."""
    places = [(part, lab) for part in range(parts) for lab in range(labs) for _ in range(count)]
    return [Specimen(number, *place) for number, place in enumerate(places)]


@dataclass(frozen=True)
class FocalRecipe(Recipe):
    """What determines the specimens of a bank, painted in one way.

    Attributes:
        marker: that shows in foci.
        shift: by how much a focus raises the latents of its programme, in SDs of the latent of the largest weight.
        kind: way of painting, one of `KINDS`.
    """

    marker: str = "P53"
    shift: float = 2.0
    kind: str = PLAIN

    def case(self, index: int) -> Case:
        """Latents of the specimen behind an index: what the kind raises, on what chance gave it."""
        plain = super().case(index)
        raised = {} if self.kind == PLAIN else self.imprint()
        latents = {name: value + self.shift * raised.get(name, 0.0) for name, value in plain.latents.items()}
        low, high = programme(self.marker).wild_type
        share = POSITIVE if self.kind == FOCUS else low + (high - low) * self.rng(6, index).random()
        return replace(plain, latents=latents, fractions={**plain.fractions, self.marker: share})

    def layout(self, index: int) -> np.ndarray:
        """Layout fields of the specimen, the same however it is painted."""
        return draw_layout(self.rng(2, index), self.slide_px, super().case(index).latents)

    def imprint(self) -> dict[str, float]:
        """Latents that a focus raises, the largest by 1: those of the marker, or of one that shares none with it."""
        own = programme(self.marker).imprint
        if self.kind == OTHER:
            apart = [one.imprint for one in MARKERS.values() if not set(one.imprint) & set(own)]
            own = next(found for found in apart if not self._moves_layout(found))
        largest = max(own.values())
        return {name: weight / largest for name, weight in own.items() if name in LATENTS}

    def check(self) -> None:
        """Refuse a marker that imprints where tissue lies, which the plain section and a focus in it must share.

        Raises:
            InputError: it does; the message names markers that do not.
        """
        if self._moves_layout(programme(self.marker).imprint):
            fit = [name for name, one in MARKERS.items() if not self._moves_layout(one.imprint)]
            raise InputError(
                f"{self.marker} changes how the tissue is laid out, so it cannot show in foci of one section; "
                f"a focal cohort can have {' or '.join(fit)}."
            )

    def _moves_layout(self, imprint: dict[str, float]) -> bool:
        plain = super().case(0).latents
        raised = {name: value + 2 * (name in imprint) for name, value in plain.items()}
        before, after = (draw_layout(self.rng(2, 0), _SMALL, latents) for latents in (plain, raised))
        return not np.array_equal(before, after)

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
