"""From new H&E slides to predictions and heat maps. Research use only; no IHC slide is read.

A trained method is a folder: study.json (how slides are cut and encoded), fold<k>.safetensors and fold<k>.json,
probe.json. Every fold's model and probe scores the slide; their log odds are averaged.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import ValidationError
from scipy.special import expit

import hsa
from hsa import files
from hsa.bags.bag import read_bag, write_bag
from hsa.bags.batches import Bags, collate
from hsa.bags.batches import Tiles as Bagged
from hsa.bags.encoding import encoder_options
from hsa.bags.features import encode_slide, source
from hsa.encoders.encoder import TileEncoder, tile_encoder
from hsa.errors import InputError
from hsa.evaluation.heatmaps import Score, occlusion, probe_score
from hsa.fingerprint import fingerprint
from hsa.models.checkpoints import load_fold
from hsa.models.longnet import GRID
from hsa.slides.slide import Slide
from hsa.study.settings import Encoder, Tiles
from hsa.workers import bar, cores

NOTICE = "Research use only. Not a medical device."
THUMBNAIL_PX = 900


@dataclass(frozen=True)
class Predictor:
    """A trained method of one marker, ready for new slides. Read it with `load_predictor`.

    Attributes:
        folder: of the method.
        study, marker, method: their names.
        classes: names of the negative and the positive class.
        all_classes: names of all classes the probe tells apart, lowest first; the same two, or more.
        prevalence: share of positives in the study's cohort.
        tiles, encoder: how slides were cut and encoded.
        int8: folder of the encoder's int8 model; None if it has none.
        colours: whether the slide encoder takes the tiles' colours in place of features.
        scores: for each fold, Batch of B bags -> log odds (B,).
        means: for each fold, the features of its average H&E tile (D,).
    """

    folder: Path
    study: str
    marker: str
    method: str
    classes: tuple[str, str]
    all_classes: tuple[str, ...]
    prevalence: float
    tiles: Tiles
    encoder: Encoder
    int8: str | None
    colours: bool
    scores: tuple[Score, ...]
    means: tuple[np.ndarray, ...]

    def __str__(self) -> str:
        return f"{self.marker} from H&E, method {self.method} of study {self.study}"

    @cached_property
    def network(self) -> TileEncoder:
        """The tile encoder; making it takes seconds, so not before a slide needs it."""
        options = encoder_options(self.encoder, self.tiles, self.int8, cores())
        return tile_encoder(self.encoder.name, **vars(options))


@dataclass(frozen=True)
class Reading:
    """What the models of all folds say of one slide.

    Attributes:
        tiles: features and coordinates (px of the tiles), in raster order.
        corners: (N, 2) upper left corners of the tiles, level-0 px, in the same order.
        side: of a tile, level-0 px.
        mpp: of level 0.
        logits: log odds of the positive class, by fold (F,).
        warning: of the tissue mask; empty if there is none.
    """

    tiles: Bagged
    corners: np.ndarray
    side: int
    mpp: float
    logits: np.ndarray
    warning: str

    @property
    def numbers(self) -> dict[str, float]:
        """Probability (of the mean log odds), low and high: the least and the most that one fold's model says.

        They are the spread of the models, not a confidence interval. The probe weighs all classes equally: the
        probability is that of a population in which each is as common.
        """
        found = {"probability": self.logits.mean(), "low": self.logits.min(), "high": self.logits.max()}
        return {name: float(expit(value)) for name, value in found.items()}


def load_predictor(folder: str | Path) -> Predictor:
    """Read a trained method.

    Args:
        folder: of the method, such as results/virtual/seed0/p53/full.

    Raises:
        InputError: a file is missing or does not hold what it should.
    """
    folder = Path(folder)
    about, probes = _json(folder / "study.json"), _json(folder / "probe.json")
    try:
        tiles, encoder = Tiles(**about["tiles"]), Encoder(**about["encoder"])
        negative, positive = about["classes"]
        names = {key: str(about[key]) for key in ("study", "marker", "method")}
        prevalence, folds = float(about["prevalence"]), sorted(probes["folds"], key=lambda probe: probe["fold"])
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        raise InputError(f"{folder}: study.json or probe.json lacks something ({error}). Evaluate again.") from error
    models = [load_fold(folder, probe["fold"]) for probe in folds]
    if not models:
        raise InputError(f"{folder / 'probe.json'}: no fold. Evaluate again.")
    return Predictor(
        folder=folder,
        **names,
        classes=(negative, positive),
        all_classes=tuple(about.get("all_classes", (negative, positive))),
        prevalence=prevalence,
        tiles=tiles,
        encoder=encoder,
        int8=about.get("int8"),
        colours=models[0][1]["settings"]["input"]["encoder"] == "colour",
        scores=tuple(probe_score(model, probe) for (model, _), probe in zip(models, folds, strict=True)),
        means=tuple(model.he_mean.numpy() for model, _ in models),
    )


def read_slide(predictor: Predictor, path: Path, name: str, bags: Path, mpp: float | None = None) -> Reading:
    """Cut, encode, embed and score one H&E slide. Its bag is kept in `bags`, so that a second run is quick.

    Args:
        predictor: the method.
        path: the slide.
        name: of the bag.
        bags: folder of the bags.
        mpp: level-0 resolution, um/px, where the file does not hold it.

    Raises:
        InputError: the slide cannot be read or holds no tissue.
    """
    if not path.exists():
        raise InputError(f"slide {path} does not exist: correct the path")
    settings = [predictor.tiles.model_dump(), predictor.encoder.model_dump()]
    stamp = fingerprint([*settings, str(path.resolve()), source(path, mpp)], "hsa.bags.features")
    target = bags / f"{name}.h5"
    if not (target.is_file() and read_bag(target).attrs.get("stamp") == stamp):
        network, batch = predictor.network, predictor.encoder.batch
        made = encode_slide(path, network, predictor.tiles, slide_id=name, mpp=mpp, batch=batch, stamp=stamp)
        write_bag(target, made)
    bag, tiles = read_bag(target), Bags(bags, colours=predictor.colours, grid=GRID)[name]
    corners = bag.coords[np.lexsort((bag.coords[:, 0], bag.coords[:, 1]))]  # the order that Bags gives
    return Reading(
        tiles=tiles,
        corners=corners,
        side=int(bag.attrs["tile_px_level0"]),
        mpp=float(bag.attrs["mpp"]),
        logits=np.array([float(score(collate([tiles]))[0]) for score in predictor.scores]),
        warning=str(bag.attrs["mask_warning"]),
    )


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
    mpp: float | None = None,
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
        InputError: two slides of one name; or some could not be read, all others being done by then.
    """
    stems = [path.stem for path in slides]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise InputError(f"two slides are called {', '.join(twice)}: their files would be one. Predict them apart.")
    rows, problems = [], []
    for path in bar(slides, desc="slides", progress=progress):
        try:
            reading = read_slide(predictor, path, path.stem, out / "bags", mpp)
        except (InputError, OSError) as error:
            problems.append(str(error))
            continue
        numbers, count = reading.numbers, len(reading.corners)
        warning = reading.warning
        if count <= heatmap_tiles:
            _write_map(predictor, path, reading, out / f"{path.stem}_heatmap.png", mpp)
        else:
            warning = "; ".join(filter(None, [warning, f"no heat map: more than {heatmap_tiles} tiles"]))
        call = predictor.classes[int(numbers["probability"] > 0.5)]
        rows.append({"slide": path.name, **numbers, "call": call, "tiles": count, "warning": warning})
    columns = ["slide", "probability", "low", "high", "call", "tiles", "warning"]
    files.write_frame(out / "predictions.csv", pd.DataFrame(rows, columns=columns))
    lines = [f"  {r['slide']}: {r['call']}, {r['probability']:.2f} ({r['low']:.2f} to {r['high']:.2f})" for r in rows]
    head = f"{predictor}: {len(rows)} of {len(slides)} slides read."
    summary = "\n".join([head, *lines, *caveats(predictor)]) + "\n"
    files.write_text(out / "summary.txt", summary)
    if problems:
        raise InputError(f"{len(problems)} of {len(slides)} slides could not be read:\n  " + "\n  ".join(problems))
    return summary


def caveats(predictor: Predictor) -> list[str]:
    """Say, in lines for any summary, what the numbers are and are not."""
    several = len(predictor.all_classes) > 2
    every = f"the classes {', '.join(predictor.all_classes)}" if several else "both classes"
    return [
        f"Probability of {predictor.classes[1]}: the mean log odds of {len(predictor.scores)} models. It weighs "
        f"{every} equally; in the study's cohort {predictor.prevalence:.0%} of the cases were {predictor.classes[1]}.",
        "Low and high are the lowest and the highest of these models, not a confidence interval.",
        NOTICE,
    ]


def _json(path: Path) -> Any:
    if not path.is_file():
        raise InputError(
            f"{path}: no such file. Give the folder of a trained and evaluated method, such as "
            "results/virtual/seed0/p53/full."
        )
    try:
        return files.read_json(path)
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}). Evaluate the study again.") from error


def _write_map(predictor: Predictor, path: Path, reading: Reading, target: Path, given: float | None) -> None:
    import matplotlib.pyplot as plt

    from hsa.reporting import figures

    table, numbers = importance(predictor, reading), reading.numbers
    limit = float(table["importance"].abs().max()) or 1.0
    with Slide.open(path, given) as slide:
        mpp = slide.view_mpp(THUMBNAIL_PX, finest=0)
        picture = slide.thumbnail(mpp)
    figures.use_style()
    fig, axes = figures.panels(1, 2, height=1.1 + 3.0 * picture.shape[0] / picture.shape[1])
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
    fig.suptitle(f"{title}\n{NOTICE}", fontsize=9.5)
    note = {"study": predictor.study, "method": predictor.method, "slide": path.name, "notice": NOTICE}
    figures.save(fig, target, table, note | {"hsa": hsa.__version__})
    plt.close(fig)
