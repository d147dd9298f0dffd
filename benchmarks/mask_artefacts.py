"""Recall and IoU of tissue masks beside ink, stained edges and vignettes, and in fields that have no margin of glass.

python benchmarks/mask_artefacts.py [--pictures FOLDER] [--quick]      a minute or two of CPU time; prints Markdown

Ink, bands and vignettes are laid over the sections of benchmarks/masks.py in three stains. Tissue under ink counts for
nothing, either way. Fields are drawn: nuclei in clusters, stroma of 0.01 to 0.03 optical density that is as flat as
glass, and gaps that show the glass. With HSA_REAL_PAIRS also real fields of breast in
pale stains, out of which gaps are cut.
"""

import argparse
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from masks import (
    COARSE,
    DAB,
    EOSIN,
    HAEMATOXYLIN,
    LIGHTS,
    METHODS,
    Texture,
    coarse,
    jpeg,
    outlined,
    photographed,
    scaled,
    scores,
    stained,
    textures,
    unmixed,
)
from PIL import Image
from scipy import ndimage

from hsa.slides.canvas import picture_canvas
from hsa.slides.tissue import canvas_tissue

# Recall and IoU of a good mask.
GOOD = (0.9, 0.8)
INKS = {
    "red": (200, 30, 40),
    "orange": (240, 130, 30),
    "yellow": (240, 220, 40),
    "purple": (110, 40, 140),
    "blue": (40, 60, 160),
    "green": (30, 120, 80),
    "black": (25, 25, 28),
}
STAINS = ("H&E, strong", "haematoxylin, pale", "haematoxylin, DAB strong")
# Stain of the stroma of a field, and of its nuclei.
FIELDS = {
    "H&E": (EOSIN, HAEMATOXYLIN),
    "IHC": (0.6 * HAEMATOXYLIN + 0.4 * DAB, DAB),
    "haematoxylin": (HAEMATOXYLIN,) * 2,
}
PALE_STAINS = ("haematoxylin, pale", "H&E, pale", "haematoxylin, DAB pale")
REAL_FIELDS, FIELD_MPP = ("BCI_00007", "BCI_00057", "BCI_00820", "BCI_00901"), 0.46


@dataclass(frozen=True)
class Case:
    """A picture at COARSE um/px, where tissue is, and where it does not matter."""

    kind: str
    name: str
    picture: np.ndarray
    truth: np.ndarray
    ignored: np.ndarray


def inked(picture: np.ndarray, truth: np.ndarray, colour: tuple[int, ...], width: int) -> tuple[np.ndarray, np.ndarray]:
    """A stroke through the picture, half on tissue and half on glass, with streaks; and what it covers."""
    height, across = picture.shape[:2]
    y, x = np.ogrid[:height, :across]
    middle = 0.15 * height + 0.08 * height * np.sin(5 * x / across) + 0.25 * y
    stroke = np.abs(y - middle) < width / 2
    streaks = 1 + 0.05 * ndimage.gaussian_filter1d(np.random.default_rng(1).standard_normal(height), 2)[:, None]
    return laid(picture, 0.85 * streaks * stroke, colour)


def band(
    picture: np.ndarray, truth: np.ndarray, colour: tuple[int, ...], share: float
) -> tuple[np.ndarray, np.ndarray]:
    """A band along the left edge that fades to its inner side."""
    across = np.arange(picture.shape[1]) / picture.shape[1] / share
    return laid(picture, np.broadcast_to(np.where(across < 1, 0.8 - 0.4 * across, 0), picture.shape[:2]), colour)


def laid(picture: np.ndarray, share: np.ndarray, colour: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    share = ndimage.gaussian_filter(share.astype(float), 0.8)
    return (1 - share[..., None]) * picture + share[..., None] * np.array(colour), share > 0.05


def vignette(picture: np.ndarray, truth: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    height, width = picture.shape[:2]
    y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)
    return picture * (1 - share * (y**2 + x**2) / 2)[..., None], np.zeros((height, width), bool)


ARTEFACTS: dict[str, tuple[Callable, tuple]] = {
    **{f"pen, {name}": (inked, (colour, 40)) for name, colour in INKS.items()},
    "fine pen, purple": (inked, (INKS["purple"], 10)),
    "fine pen, red": (inked, (INKS["red"], 10)),
    "brown edge": (band, ((150, 105, 65), 0.12)),
    "brown edge, wide": (band, ((170, 130, 90), 0.25)),
    "grey edge": (band, ((110, 110, 112), 0.12)),
    "vignette of 12 %": (vignette, (0.12,)),
    "vignette of 25 %": (vignette, (0.25,)),
}


def sections(quick: bool) -> Iterator[Case]:
    for texture in islice(textures(), 1 if quick else None):
        for stain in STAINS[: 1 if quick else None]:
            # The camera's noise and JPEG come after ink and vignette.
            clean = photographed(stained(texture, stain), "tinted, uneven", texture.times).astype(float)
            for name, (lay, more) in ARTEFACTS.items():
                picture, ignored = lay(clean, texture.truth, *more)
                noise = np.random.default_rng(2).normal(0, 0.7, picture.shape)
                kind = name.split(",")[0] if "edge" not in name else "edge"
                yield Case(
                    kind,
                    f"{texture.name}, {stain}, {name}",
                    jpeg(picture + noise),
                    texture.truth,
                    ignored & texture.truth,
                )


def drawn_field(size: int, gaps: float, pale: float, stain: str, seed: int) -> Texture:
    """Densities (h, w, 3) at 2 um/px, of a field of `size` px with this share of gaps."""
    rng = np.random.default_rng(seed)

    def noise(scale: float) -> np.ndarray:
        made = ndimage.gaussian_filter(rng.standard_normal((size, size)), scale)
        return made / made.std()

    ground = noise(24)
    gap = np.clip(0.5 + 6 * (ground - np.quantile(ground, 1 - gaps)), 0, 1)
    clusters = np.clip(noise(16) - 0.2, 0, 1) * (noise(1.5) > 0.3)
    stroma, nuclei = FIELDS[stain]
    amount = pale * (1 + 0.1 * noise(12))
    density = ((amount[..., None] * stroma / stroma.max()) + 0.5 * clusters[..., None] * nuclei) * (1 - gap[..., None])
    return Texture(
        f"field of {size * 2} um, {gaps:.0%} gaps, stroma {pale:g}, {stain}", density, coarse(gap, 4) < 0.5, 4
    )


def fields(quick: bool) -> Iterator[Case]:
    for size in (256, 640):
        for gaps in (0.05, 0.2):
            for pale in (0.02, 0.03):
                for stain in list(FIELDS)[: 1 if quick else None]:
                    made = drawn_field(size, gaps, pale, stain, seed=size)
                    for light in LIGHTS:
                        picture = photographed(made.amounts, light, made.times)
                        yield Case("field", f"{made.name}, {light}", picture, made.truth, np.zeros_like(made.truth))
    folder = os.environ.get("HSA_REAL_PAIRS")
    for name in REAL_FIELDS if folder else ():
        texture = real_field(next(Path(folder).glob(f"{name}__he__*")), name)
        for stain in PALE_STAINS[: 1 if quick else None]:
            for light in LIGHTS:
                picture = photographed(stained(texture, stain), light, texture.times)
                yield Case(
                    "real field", f"{name}, {stain}, {light}", picture, texture.truth, np.zeros_like(texture.truth)
                )


def real_field(path: Path, name: str) -> Texture:
    """A field of breast, full of tissue, out of which gaps are cut that a smooth noise draws: 15 % of it."""
    picture = Image.open(path).convert("RGB")
    picture = np.asarray(picture.resize([round(side * FIELD_MPP / 2.0) // 4 * 4 for side in picture.size], 5))
    noise = ndimage.gaussian_filter(np.random.default_rng(3).standard_normal(picture.shape[:2]), 20)
    shape = np.clip(0.5 + 8 * (np.quantile(noise, 0.85) - noise) / noise.std(), 0, 1)
    amounts = unmixed(picture, np.array([245.0, 245, 245]), HAEMATOXYLIN, EOSIN) * shape[..., None]
    return scaled(Texture(name, amounts, coarse(shape, 4) > 0.5, 4))


def judged(
    cases: Iterator[Case], method: Callable[[np.ndarray], np.ndarray]
) -> Iterator[tuple[Case, np.ndarray, float, float]]:
    for case in cases:
        found = method(case.picture)
        yield case, found, *scores(found[~case.ignored], case.truth[~case.ignored])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, help="folder for pictures of our eight worst cases of each kind")
    parser.add_argument("--quick", action="store_true", help="one section, and one stain of each")
    asked = parser.parse_args()
    made = [*sections(asked.quick), *fields(asked.quick)]
    kinds = list(dict.fromkeys(case.kind for case in made))
    print("\nWorst recall / worst IoU of each kind\n")
    columns = ["kind", "cases", f"ours below {GOOD[0]} / {GOOD[1]}", "of them warned of", *METHODS]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for kind in kinds:
        cells = []
        for name, method in METHODS.items():
            rows = list(judged((case for case in made if case.kind == kind), method))
            cells.append(f"{min(row[2] for row in rows):.2f} / {min(row[3] for row in rows):.2f}")
            if name == "ours":
                bad = [case for case, _, recall, iou in rows if recall < GOOD[0] or iou < GOOD[1]]
                told = sum(bool(canvas_tissue(picture_canvas(case.picture, COARSE))[1]) for case in bad)
            if name == "ours" and asked.pictures:
                asked.pictures.mkdir(parents=True, exist_ok=True)
                for case, found, recall, iou in sorted(rows, key=lambda row: min(row[2] - 0.1, row[3]))[:8]:
                    stem = (
                        f"{kind}_{recall:.2f}_{iou:.2f}_{case.name}".replace(" ", "_").replace("&", "").replace("%", "")
                    )
                    outlined(case.picture, found, case.truth).save(asked.pictures / f"{stem}.png")
        print(f"| {kind} | {len(rows)} | {len(bad)} | {told} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
