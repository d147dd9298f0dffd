"""From a recipe to the picture of one section, and back to what it was painted from."""

from dataclasses import dataclass

import numpy as np

from hsa.virtual.artefacts import spoil
from hsa.virtual.cells import draw_cells, is_tumour, stain
from hsa.virtual.markers import MARKERS
from hsa.virtual.optics import Batch, draw_batch, expose, titrate
from hsa.virtual.render import render
from hsa.virtual.specimen import STEP, Case, Section, cut_section, draw_case, draw_layout

MPP = 0.5
HE = "HE"
TWICE_EVERY = 11  # each 11th case is a second case of the patient before it: 1 patient in 10 has two


@dataclass(frozen=True)
class Recipe:
    """What determines a virtual cohort, but for its size: equal recipes give equal slides, byte for byte."""

    slide_px: int
    strength: float
    seed: int

    def rng(self, *key: int) -> np.random.Generator:
        """A generator of its own for each patient, case, section and reader, whatever else is drawn."""
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key))

    def case(self, index: int) -> Case:
        """Latents of the case with this number."""
        return draw_case(self.rng(0, index - is_second(index)), self.rng(1, index), self.strength)

    def layout(self, index: int) -> np.ndarray:
        """Layout fields that all sections of the case share."""
        return draw_layout(self.rng(2, index), self.slide_px, self.case(index).latents)


@dataclass(frozen=True)
class SectionTruth:
    """What a section holds: its layout, its cells with their DAB, and the positive fraction (NaN on H&E)."""

    section: Section
    cells: np.ndarray
    fraction: float

    @property
    def tumour(self) -> np.ndarray:
        """Viable epithelium, bool (h, w) at `mpp`."""
        at = self.section.at
        outside = np.maximum(at("lumen"), at("necrosis"))
        return ((np.minimum(at("epithelium"), at("tissue")) > 0) & (outside < 0))[self._window]

    @property
    def positive(self) -> np.ndarray:
        """Positions (N, 2) in level-0 px, x and y, of the positive tumour cells."""
        cells = self.cells[is_tumour(self.cells)]
        cells = cells[(cells["dab"] > 0) | (cells["ring"] > 0)]
        return np.stack([cells["x"], cells["y"]], 1)

    @property
    def mpp(self) -> float:
        """Microns per sample of `tumour`."""
        return STEP * MPP

    @property
    def _window(self) -> tuple[slice, slice]:
        return (slice(0, self.section.px // STEP),) * 2


def section_truth(recipe: Recipe, index: int, stain_name: str, layout: np.ndarray | None = None) -> SectionTruth:
    """Draw section `stain_name` ("HE" or a marker) of case `index` again: what the slide was painted from.

    Args:
        recipe: of the cohort.
        index: number of the case, from 0.
        stain_name: "HE" or a marker.
        layout: `recipe.layout(index)`, where it is at hand already.
    """
    case = recipe.case(index)
    rng = recipe.rng(3, index, stain_number(stain_name))
    section = cut_section(rng, recipe.layout(index) if layout is None else layout, recipe.slide_px)
    cells = draw_cells(rng, section, case)
    fraction = np.nan if stain_name == HE else stain(rng, section, case, cells, stain_name)
    return SectionTruth(section, cells, fraction)


def photograph(
    recipe: Recipe, index: int, stain_name: str, truth: SectionTruth, batch: Batch | None = None
) -> np.ndarray:
    """Stain and scan a section: uint8 RGB (px, px, 3); in a batch of its own, unless one is given."""
    rng = recipe.rng(4, index, stain_number(stain_name))
    ihc = stain_name != HE
    batch = batch or draw_batch(rng, ihc)
    planes = render(rng, truth.section, truth.cells, ihc)
    footprint, overlay = spoil(rng, planes, truth.section)
    amounts = batch.amounts if ihc else titrate(planes, footprint, batch)
    return overlay(expose(rng, planes, amounts, batch))


def is_second(index: int) -> bool:
    """Whether this case is the second one of the patient of the case before."""
    return index % TWICE_EVERY == TWICE_EVERY - 1


def stain_number(name: str) -> int:
    """Place of a stain in the seeds, fixed by the table of markers and not by a study's choice of them."""
    return 0 if name == HE else 1 + list(MARKERS).index(name)
