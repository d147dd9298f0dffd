"""Which tiles a prediction rests on: the importance of each tile of an H&E slide.

By occlusion for any slide encoder, or the weights of gated attention. `hsa.evaluation.pointing` scores these maps.
"""

import numpy as np
import torch

from hsa.bags.batches import Bags, Batch, Tiles, collate
from hsa.errors import InputError
from hsa.evaluation.scoring import Score, fold_score
from hsa.models.longnet import GRID
from hsa.models.model import SlideModel
from hsa.models.pooling import GatedABMIL
from hsa.study.study import Study


def occlusion(
    score: Score, tiles: Tiles, mean: np.ndarray, tokens: int = 2**15, passes: int | None = None
) -> np.ndarray:
    """Importance of each tile: how far the score falls when the tile is replaced by an average one.

    Occlusion as of Zeiler and Fergus (ECCV 2014), on tile features. The occluded tile keeps its place, as in
    masked training. For mean pooling and a linear score it is the tile's share in the score, exactly.

    Args:
        score: Batch of B bags -> logits (B,). The model behind it must be in eval mode.
        tiles: features (N, D) and coordinates (N, 2) of one slide.
        mean: features of the average tile (D,): the H&E mean of the fold, `SlideModel.he_mean`.
        tokens: at most so many tiles a batch (of whole bags), to bound memory.
        passes: at most so many occlusions, to bound time, which grows with the square of N. Of a slide with more tiles
            square blocks of neighbours are replaced together, and each of them is given its share.

    Returns:
        (N,) float64 in logits: positive where a tile speaks for the positive class.

    Raises:
        InputError: `mean` has another width than the features, or an importance is not a finite number.
    """
    whole = collate([tiles])
    count, width = whole.features.shape[1:]
    average = torch.as_tensor(np.asarray(mean), dtype=whole.features.dtype)
    if average.shape != (width,):
        raise InputError(
            f"occlusion: mean has shape {tuple(average.shape)}, tiles have {width} features; give one mean."
        )
    block = torch.from_numpy(_blocks(tiles[1], passes or count))
    found = []
    for blocks in torch.arange(int(block.max()) + 1).split(max(1, tokens // count)):
        hidden = block == blocks[:, None]
        features = torch.where(hidden[..., None], average, whole.features)
        batch = Batch(features, whole.coords.expand(len(blocks), -1, -1), whole.mask.expand(len(blocks), -1))
        found.append(np.asarray(score(batch), dtype=float))
    fallen = float(score(whole)[0]) - np.concatenate(found)
    return _finite(np.asarray((fallen / np.bincount(block))[block.numpy()]))


def _blocks(coords: np.ndarray, most: int) -> np.ndarray:
    """Number of the square block (N,) of each tile at coords (N, 2); as small as makes `most` of them or fewer."""
    if len(coords) <= most:
        return np.arange(len(coords))
    step = side = min(int(np.diff(np.unique(axis)).min(initial=2**20)) for axis in coords.T)
    while len(np.unique(coords // side, axis=0)) > most:
        # In steps of a tile; where coordinates are not on a grid, and a step is a pixel, in growing ones.
        side += max(step, side // 16 // step * step)
    return np.unique(coords // side, axis=0, return_inverse=True)[1].reshape(-1)


def attention(model: SlideModel, tiles: Tiles) -> np.ndarray:
    """Weights (N,) of the tiles in gated attention pooling; they sum to 1. They have no sign.

    Args:
        model: with the encoder "abmil", in eval mode.
        tiles: features (N, D) and coordinates (N, 2) of one slide.

    Raises:
        InputError: another slide encoder, or a weight that is not a finite number.
    """
    if not isinstance(model.encoder, GatedABMIL):
        raise InputError(f"attention: {type(model.encoder).__name__} has no attention weights of tiles; use occlusion.")
    batch = collate([tiles])
    with torch.inference_mode():
        h = model.encoder.embed(model.standardise(batch, "he"))
        return _finite(model.encoder.attention(h, batch.mask)[0].double().numpy())


def _finite(importance: np.ndarray) -> np.ndarray:
    if not np.isfinite(importance).all():
        raise InputError(
            "the importance of a tile is not a finite number, so there is no heat map: the model's weights or its "
            "features are too large; copy the model's folder again, or train it again."
        )
    return importance


def slide_map(study: Study, marker: str, method: str, slide_id: str, fold: int, passes: int = 256) -> Tiles:
    """Occlude the tiles of one H&E slide, with the model and probe of one fold and the first seed.

    Args:
        study: the study.
        marker: the marker.
        method: the method.
        slide_id: the slide; of several joined by "+", which the model sees as one, the map of the first is given.
        fold: whose model and probe.
        passes: see `occlusion`.

    Returns:
        Coordinates (N, 2) in pixels of the tiles, at `study.tiles.mpp`, and importance (N,) in logits.

    Raises:
        InputError: the method has not been trained, or what was trained is damaged.
    """
    folder = study.at(study.seed).paths.method(marker, method)
    model, score = fold_score(folder, fold)
    bags = Bags(study.paths.bags, colours=study.methods[method].encoder == "colour", grid=GRID)
    importance = occlusion(score, bags[slide_id], model.he_mean.numpy(), passes=passes)
    _, corners = bags[slide_id.split("+")[0]]
    return corners, importance[: len(corners)]
