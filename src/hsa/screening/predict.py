"""From new H&E slides to predictions and heat maps. Research use only; no IHC slide is read.

Every fold's model and probe scores the slide; their log odds are averaged.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

import hsa
from hsa import files
from hsa.bags.bag import read_bag, write_bag
from hsa.bags.batches import Bags, collate
from hsa.bags.batches import Tiles as Bagged
from hsa.bags.content import is_whole
from hsa.bags.features import encode_slide, sha256, source
from hsa.errors import InputError, reason
from hsa.evaluation.heatmaps import occlusion
from hsa.fingerprint import fingerprint
from hsa.models.longnet import GRID
from hsa.screening import caveats, verdict
from hsa.screening.predictor import Predictor
from hsa.slides.readers import absent, split_scene
from hsa.slides.resolution import OVERRIDE, Given
from hsa.slides.slide import Slide
from hsa.workers import bar

THUMBNAIL_PX = 900


@dataclass(frozen=True)
class Reading:
    """What the models of all folds say of one slide.

    Attributes:
        tiles: features and coordinates (px of the tiles), in raster order.
        corners: (N, 2) upper left corners of the tiles, level-0 px, in the same order.
        side: of a tile, level-0 px.
        mpp: of level 0.
        logits: log odds of the positive class, by fold (F,).
        sha256: of the slide's file.
        warning: of the tissue mask; empty if there is none.
    """

    tiles: Bagged
    corners: np.ndarray
    side: int
    mpp: float
    logits: np.ndarray
    sha256: str
    warning: str


def read_slide(predictor: Predictor, path: Path, name: str, bags: Path, mpp: float | Given | None = None) -> Reading:
    """Cut, encode, embed and score one H&E slide. Its bag is kept in `bags`.

    A second run takes the time to read the file, as only its content says whether the bag is of it.

    Args:
        predictor: the method.
        path: the slide.
        name: of the bag.
        bags: folder of the bags.
        mpp: level-0 resolution, um/px, where the file does not hold it.

    Raises:
        InputError: the slide cannot be read, holds no tissue, or gets a score that is not finite.
    """
    if not split_scene(path)[0].exists():
        raise InputError(f"slide {path} {absent(path)}")
    settings = [predictor.tiles.model_dump(), predictor.encoder.model_dump()]
    stamp = fingerprint([*settings, str(path.resolve()), source(path, mpp), *_marked(mpp)], "hsa.bags.features")
    target = bags / f"{name}.h5"
    if not _is_of(target, stamp, path):
        network, batch = predictor.network, predictor.encoder.batch
        made = encode_slide(path, network, predictor.tiles, slide_id=name, mpp=mpp, batch=batch, stamp=stamp)
        write_bag(target, made)
    bag, tiles = read_bag(target), Bags(bags, colours=predictor.colours, grid=GRID)[name]
    corners = bag.coords[np.lexsort((bag.coords[:, 0], bag.coords[:, 1]))]  # the order that Bags gives
    try:
        logits = np.array([float(score(collate([tiles]))[0]) for score in predictor.scores])
    except InputError as error:
        raise InputError(f"slide {path}, bag {target}: {error}") from None
    return Reading(
        tiles=tiles,
        corners=corners,
        side=int(bag.attrs["tile_px_level0"]),
        mpp=float(bag.attrs["mpp"]),
        logits=logits,
        sha256=str(bag.attrs.get("source_sha256", "")),
        warning=str(bag.attrs["mask_warning"]),
    )


def _is_of(bag: Path, stamp: str, slide: Path) -> bool:
    """Whether a bag of a run before is sound, of these settings, and of this very file, whatever its name and size."""
    if not bag.is_file():
        return False
    try:
        found = read_bag(bag)
    except InputError:  # damaged: it is made anew
        return False
    return found.attrs.get("stamp") == stamp and is_whole(found) and found.attrs.get("source_sha256") == sha256(slide)


def _marked(mpp: float | Given | None) -> list[str]:
    return [OVERRIDE] if isinstance(mpp, Given) and mpp.override else []


def importance(predictor: Predictor, reading: Reading) -> pd.DataFrame:
    """Ask of each tile how far the log odds fall if it is replaced by the average tile, as a mean over the folds.

    Takes a pass of every fold's model for each tile, hence time with the square of the number of tiles.

    Returns:
        A row a tile: x, y (upper left corner, level-0 px), importance (log odds; positive: it speaks for the
        positive class).
    """
    pairs = zip(predictor.scores, predictor.means, strict=True)
    values = np.mean([occlusion(score, reading.tiles, mean) for score, mean in pairs], axis=0)
    return pd.DataFrame({"x": reading.corners[:, 0], "y": reading.corners[:, 1], "importance": values})


def predict(
    predictor: Predictor,
    slides: Sequence[Path],
    out: Path,
    mpp: float | Given | None = None,
    heatmap_tiles: int = 1000,
    progress: bool = True,
) -> str:
    """Predict slides one by one. Writes predictions.csv, summary.txt, bags/ and a heat map a slide, as PNG and CSV.

    Args:
        predictor: the method.
        slides: H&E slides.
        out: folder to write to.
        mpp: level-0 resolution of slides that do not hold it, um/px.
        heatmap_tiles: slides with more tiles get no heat map.
        progress: show a bar.

    Returns:
        The summary.

    Raises:
        InputError: two slides of one name; or some could not be read or scored, all others being done by then.
    """
    stems = [path.stem for path in slides]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise InputError(f"two slides are called {', '.join(twice)}: their files would be one. Predict them apart.")
    rows, lines, problems = [], [], []
    for path in bar(slides, desc="slides", progress=progress):
        try:
            reading = read_slide(predictor, path, path.stem, out / "bags", mpp)
            numbers, call = verdict.numbers(reading.logits), verdict.class_of(reading.logits, predictor.classes)
            count, warning = len(reading.corners), reading.warning
            heat = importance(predictor, reading) if count <= heatmap_tiles else None
        except Exception as error:  # whatever is raised for one slide is its failure alone
            told = reason(error)
            problems.append(told if str(path) in told else f"slide {path}: {told}")
            continue
        if heat is None:
            warning = "; ".join(filter(None, [warning, f"no heat map: more than {heatmap_tiles} tiles"]))
        else:
            _write_map(predictor, path, reading, heat, out / f"{path.stem}_heatmap.png", mpp)
        met = caveats.exposure(predictor, reading.sha256)
        marks = {"trained_on": caveats.trained_on(predictor), "in_training": met.column, "warning": warning}
        rows.append({"slide": path.name, **numbers, "call": call, "tiles": count, **marks})
        line = "  {slide}: {call}, {probability:.2f} ({low:.2f} to {high:.2f})".format(**rows[-1])
        lines.append("; ".join(filter(None, [line, met.sentence])))
    columns = ["slide", "probability", "low", "high", "call", "tiles", "trained_on", "in_training", "warning"]
    files.write_frame(out / "predictions.csv", pd.DataFrame(rows, columns=columns))
    head = [f"{predictor}: {len(rows)} of {len(slides)} slides read.", *caveats.of_origin(predictor)]
    tail = [*caveats.of_training(predictor), *caveats.of_numbers(predictor)]
    summary = "\n".join([*head, *lines, *tail]) + "\n"
    files.write_text(out / "summary.txt", summary)
    if problems:
        raise InputError(f"{len(problems)} of {len(slides)} slides could not be read:\n  " + "\n  ".join(problems))
    return summary


def _write_map(
    predictor: Predictor, path: Path, reading: Reading, table: pd.DataFrame, target: Path, given: float | Given | None
) -> None:
    import matplotlib.pyplot as plt

    from hsa.reporting import figures

    numbers = verdict.numbers(reading.logits)
    limit = float(table["importance"].abs().max()) or 1.0
    with Slide.open(path, given) as slide:
        mpp = slide.view_mpp(THUMBNAIL_PX, finest=0)
        picture = slide.thumbnail(mpp)
    figures.use_style()
    told = caveats.on_figure(predictor, caveats.exposure(predictor, reading.sha256))
    height = 0.9 + 0.2 * len(told) + 3.0 * picture.shape[0] / picture.shape[1]
    fig, axes = figures.panels(1, 2, height=height)
    figures.overlay(axes[0], picture, np.ones((1, 1), bool), mpp)
    corners = table[["x", "y"]].to_numpy()
    heat = table["importance"].to_numpy()
    figures.heat_overlay(axes[1], picture, corners, heat, reading.side, mpp, reading.mpp, limit=limit)
    figures.heat_bar(axes[1], limit, classes=predictor.classes)
    axes[0].set_title("H&E")
    axes[1].set_title("what the score rests on")
    spread = f"{numbers['low']:.2f} to {numbers['high']:.2f}"
    title = (
        f"{path.name}: probability of {predictor.marker} {predictor.classes[1]} {numbers['probability']:.2f} ({spread})"
    )
    fig.suptitle("\n".join([title, *told]), fontsize=9.5)
    note = {"study": predictor.study, "method": predictor.method, "slide": path.name, "notice": " ".join(told)}
    figures.save(fig, target, table, note | {"hsa": hsa.__version__})
    plt.close(fig)
