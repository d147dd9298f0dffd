"""What a study will take, before anything starts: slides, tiles, disk, time, memory, and where each number is from."""

from collections.abc import Callable
from typing import Any

import h5py
import numpy as np
import pandas as pd

from hsa.bags.encoding import encoder_options
from hsa.cohorts import cohort as cohorts
from hsa.cohorts.manifest import HE
from hsa.encoders.encoder import tile_encoder
from hsa.encoders.registry import REGISTRY, is_foundation
from hsa.errors import InputError
from hsa.pipeline.costs import activation_bytes, clock, forward_flops, measure_step
from hsa.slides.resolution import givens
from hsa.slides.slide import Slide
from hsa.slides.tiling import tile_grid, tissue_mask
from hsa.study.settings import Method, VirtualCohort
from hsa.study.study import Study
from hsa.workers import cores

# Memory (GB) and peak (TFLOP/s) in bfloat16 without sparsity and in float32: NVIDIA's data sheets.
DEVICES = {
    "RTX 4090": (24, 165, 83),
    "L40S": (48, 362, 92),
    "A100": (80, 312, 19.5),
    "H100": (80, 989, 67),
}
UTILISATION = 0.3  # assumed share of the peak; large matrix products reach more, dilated attention less
USABLE = 0.9  # of a device's memory; its driver and gaps between tensors take the rest
GPU_WORTH = 1e12  # FLOP of a step, below which starting kernels takes a GPU longer than running them
# Parameters (millions) and tokens of a tile, by the model cards; two FLOP for each parameter and token.
TILE_ENCODERS = {
    "prov-gigapath": (1135, 197),
    "uni": (303, 197),
    "uni2-h": (681, 265),
    "virchow2": (631, 261),
    "h-optimus-0": (1135, 261),
    "h-optimus-1": (1135, 261),
    "phikon-v2": (303, 197),
}
PROV_PATH = 1_384_860_229 / 171_189  # tiles a slide of Prov-GigaPath's own cohort (Xu et al., Nature 2024)
VIRTUAL_TILES = 0.75  # of the tiles of a virtual slide (reference study: 12.1 of 16)
READ = 270  # tiles of 256 px that a core reads in a second with OpenSlide (benchmarks/reading.py)
# The virtual study takes 2.3 times as long as its steps, the smoke study, which has hardly any, 7 times.
STEPS_ALONE = "steps alone, nothing else running; reading bags and writing weights come on top"
MEASURED_S = 2.0  # about so long the tile encoder is timed


def plan(study: Study, *, cases: int | None = None, sample: int = 4, measure: bool = True) -> pd.DataFrame:
    """Estimate what a study takes.

    Nothing is written or downloaded. A handful of slides are masked, some tiles encoded, two steps of training run.

    Args:
        study: the study.
        cases: assume so many, each with every stain, where the cohort is not there yet.
        sample: slides a stain whose tissue mask is computed where there are no bags.
        measure: time the tile encoder and a step of training on this machine.

    Returns:
        A row a number: part, item, value, unit, basis (counted, measured, computed, assumed), source. Its
        `attrs["warnings"]` is a list of texts.

    Raises:
        InputError: the manifest is wrong, or missing while no `cases` are given.
    """
    rows: list[dict[str, Any]] = []

    def add(part: str, item: str, value: float, unit: str, basis: str, source: str = "") -> None:
        rows.append({"part": part, "item": item, "value": value, "unit": unit, "basis": basis, "source": source})

    warnings: list[str] = []
    here = cores()
    slides, splits, basis, source = _cohort(study, cases)
    for stain, count in slides.groupby("stain", sort=False).size().items():
        add("cohort", f"{stain} slides", float(count), "", basis, source)
    for marker, split in splits.items():
        add("cohort", f"{marker} cases", sum(split.values()), "", basis, source)
    folds, tries = study.evaluation.folds, len(study.tuning.candidates) if study.tuning else 0
    trained = {name: way for name, way in study.methods.items() if way.losses}
    add("training", "folds", folds, "", "counted", "evaluation.folds")
    runs = len(trained) * folds * len(study.markers) * (len(study.seeds) + tries)
    each = f"({len(study.seeds)} seeds, {tries} trials)"
    how = f"{len(trained)} methods x {folds} folds x {len(study.markers)} markers x {each}"
    add("training", "models to train", runs, "", "counted", how)

    tiles, dim, basis, source = _tiles(study, slides, sample, warnings)
    mean, most = float(np.mean(tiles)), max(tiles)
    add("tiles", "tiles a slide, mean", mean, "", basis, source)
    add("tiles", "tiles a slide, most", most, "", basis, source)
    add("tiles", "tiles in all", mean * len(slides), "", "computed", "mean x slides")
    dim, rate, how = _encoder(study, dim, measure)
    size = mean * len(slides) * (2 * dim + 16 + 24) + 8192 * len(slides)
    add("tiles", "disk for bags", size, "B", "computed", f"{dim} float16 features, coordinates and colours a tile")
    if rate:
        add("tiles", "tiles a second and process", rate, "", "measured", how)
        seconds = mean * len(slides) * (1 / READ + 1 / rate) / here
        how = f"and reading, assumed {READ} a second"
        add("tiles", f"time to encode, {here} cores here", seconds, "s", "measured", how)
    else:
        warnings.append(f"the tile encoder was not timed: {how}")
    if not rate and study.encoder.name in TILE_ENCODERS:
        millions, tokens = TILE_ENCODERS[study.encoder.name]
        work = 2e6 * millions * tokens
        for name, (_, peak, _) in DEVICES.items():
            seconds = mean * len(slides) * work / (peak * 1e12 * UTILISATION)
            how = f"{work / 1e9:.0f} GFLOP a tile at {UTILISATION:.0%} of {peak} TFLOP/s, reading left out"
            add("tiles", f"time to encode, {name}", seconds, "s", "assumed", how)

    cap = min(study.training.tiles_per_slide, most)
    total = sum(
        _work(study, way, dim, cap, mean, split) * (len(study.seeds) + (tries if way.losses else 0))
        for way in study.methods.values()
        for split in splits.values()
    )
    add("training", "arithmetic in all", total, "FLOP", "computed", "from the architecture, without the probe")
    if trained:
        _training(study, list(trained.values()), dim, cap, total, measure, add, warnings)
    order = ["cohort", "tiles", "training", "memory"]
    rows.sort(key=lambda row: order.index(row["part"]))
    frame = pd.DataFrame(rows)
    frame.attrs["warnings"] = warnings
    return frame


def _training(
    study: Study,
    ways: list[Method],
    dim: int,
    cap: int,
    total: float,
    measure: bool,
    add: Callable[..., None],
    warnings: list[str],
) -> None:
    """Memory of the largest step, and the time of all."""
    largest, model = max(ways, key=lambda way: (way.encoder == "longnet", _passes(study, way))), study.model
    bags, half = study.training.batch * _passes(study, largest), study.training.precision != "32-true"
    kept, again, working, parameters = activation_bytes(largest.encoder, dim, model, bags, cap, half)
    need = kept + again + working + 16 * parameters
    how = f"{parameters:,} parameters x 16 bytes"
    add("memory", "parameters, gradients, AdamW", 16 * parameters, "B", "computed", how)
    how = f"{bags} bags of {cap} tiles a step, {study.training.precision}"
    add("memory", "activations", kept + again, "B", "computed", how)
    add("memory", "working copies", working, "B", "assumed", "three of the widest hidden layer")
    add("memory", "in all", need, "B", "computed", f"a device gives {USABLE:.0%} of its memory")
    if measure:
        speed, found, expected, what, here, has = measure_step(largest.encoder, dim, model, bags, cap, half)
        add("memory", "formula against measured", expected / found, "x", "measured", f"activations of {what}")
        add("training", "speed here", speed, "FLOP/s", "measured", f"a step of {what} on {here}")
        add(
            "training",
            f"time to train, {here}",
            total / speed,
            "s",
            "measured",
            STEPS_ALONE,
        )
        if need > USABLE * has:
            warnings.append(_too_large(need, has, f"this machine ({here})", study))
    step = forward_flops(largest.encoder, dim, model, cap) * bags * 3
    for name, (memory, bfloat16, float32) in DEVICES.items() if step > GPU_WORTH else ():
        peak = bfloat16 if half else float32
        how = f"{UTILISATION:.0%} of {peak} TFLOP/s, steps alone"
        add("training", f"time to train, {name}", total / (peak * 1e12 * UTILISATION), "s", "assumed", how)
        if need > USABLE * memory * 1e9:
            warnings.append(_too_large(need, memory * 1e9, name, study))


def describe(frame: pd.DataFrame) -> str:
    """Lay out a plan as text: a line a number, with its basis and source; then the warnings."""
    lines: list[str] = []
    for part, rows in frame.groupby("part", sort=False):
        lines.append(str(part).capitalize())
        for row in rows.to_dict("records"):
            source = f": {row['source']}" if row["source"] else ""
            lines.append(f"  {row['item']:32} {_amount(row['value'], row['unit']):>12}  {row['basis']}{source}")
    lines += [f"Warning: {text}" for text in frame.attrs["warnings"]]
    return "\n".join([*lines, "What is assumed was not found here: take such times as orders of size."])


def _amount(value: float, unit: str) -> str:
    if unit == "s":
        times = ((86400, "days"), (3600, "h"), (60, "min"))
        size, name = next(((s, n) for s, n in times if value >= 1.5 * s), (1, "s"))
        return f"{value / size:,.1f} {name}"
    if unit == "x":
        return f"{value:.2f}"
    if not unit:
        return f"{value:,.1f}" if value < 100 and value % 1 else f"{value:,.0f}"
    units = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
    scale, name = next(((s, n) for s, n in units if value >= s), (1, ""))
    return f"{value / scale:.1f} {name}{unit}"


def _too_large(need: float, has: float, where: str, study: Study) -> str:
    first = "" if study.model.checkpoint_activations else "`checkpoint_activations: true` under `model`, or "
    rest = "a smaller `batch` or `tiles_per_slide` under `training`"
    return f"training needs {need / 1e9:.1f} GB, {where} has {has / 1e9:.0f} GB, not all for tensors: set {first}{rest}"


def _cohort(study: Study, cases: int | None) -> tuple[pd.DataFrame, dict[str, dict[str, int]], str, str]:
    """Slides, and the cases of a fold by split for each marker; counted, or as the study or the caller has it."""
    if cohorts.manifest_path(study).is_file():
        cohort = cohorts.load(study).first(study.design.cases)
        splits = {}
        for marker in study.markers:
            table = cohorts.fold_table(study, cohort, marker)
            counted = table[table["fold"] == 0]["split"].replace("pairs", "train").value_counts()
            splits[marker] = {str(part): int(count) for part, count in counted.items()}
        return cohort.slides, splits, "counted", "the manifest"
    if isinstance(study.cohort, VirtualCohort):
        count, basis, source = study.design.cases or study.cohort.cases, "counted", "the study file"
    elif cases is not None:
        count, basis, source = cases, "assumed", f"{cases} cases with every stain"
    else:
        path = cohorts.manifest_path(study)
        raise InputError(f"{path}: no such manifest. Write it, or say for how many cases to plan (`--cases 300`).")
    stains = [stain for stain in (HE, *study.markers) for _ in range(count)]
    part = count / study.evaluation.folds
    split = {"train": round(count - 2 * part), "val": round(part), "test": round(part)}
    return pd.DataFrame({"stain": stains}), dict.fromkeys(study.markers, split), basis, source


def _tiles(
    study: Study, slides: pd.DataFrame, sample: int, warnings: list[str]
) -> tuple[list[int], int | None, str, str]:
    """Tiles of some slides, and the width of a feature where bags tell it; basis, source."""
    counts: list[int] = []
    dim: int | None = None
    for name in slides.get("slide_id", []):
        path = study.paths.bags / f"{name}.h5"
        if path.is_file():
            with h5py.File(path) as file:
                count, dim = map(int, file["features"].shape)
                counts.append(count)
    if counts:
        return counts, dim, "measured", f"{len(counts)} bags"
    if sample and "path" in slides:
        chosen = [rows.iloc[:: -(-len(rows) // sample)] for _, rows in slides.groupby("stain")]
        cut = study.tiles
        drawn = pd.concat(chosen)
        for path, mpp in zip(drawn["path"], givens(drawn), strict=True):
            try:
                with Slide.open(path, mpp) as slide:
                    mask = tissue_mask(slide, cut.mask)
                    grid = tile_grid(slide, mask, cut.size_px, cut.mpp, cut.min_tissue, cut.max_tiles)
                    counts.append(len(grid.coords))
            except InputError as error:
                warnings.append(str(error))
        if counts:
            return counts, None, "measured", f"tissue masks of {len(counts)} slides"
    if isinstance(study.cohort, VirtualCohort):
        places = (study.cohort.slide_px // study.tiles.size_px) ** 2
        return [max(1, round(VIRTUAL_TILES * places))], None, "assumed", f"{VIRTUAL_TILES:.0%} of {places} are tissue"
    return [round(PROV_PATH)], None, "assumed", "Prov-GigaPath's cohort, 1.38 billion tiles in 171,189 slides"


def _encoder(study: Study, dim: int | None, measure: bool) -> tuple[int, float | None, str]:
    """Width of a feature, tiles a second of one core (None: not measured), and how it was found."""
    name = study.encoder.name
    known = REGISTRY[name].dim if name in REGISTRY else 1024
    if not measure or (is_foundation(name) and study.encoder.weights is None):
        return dim or known, None, f"{name} is not made here: its weights are not told by `encoder.weights`"
    options = encoder_options(study.tile_encoder, study.tiles, study.paths.bags / "int8")
    try:
        encoder = tile_encoder(name, **vars(options))
    except InputError as error:
        return dim or known, None, str(error)
    pixels = np.random.default_rng(0).integers(0, 256, (4, encoder.size_px, encoder.size_px, 3), dtype=np.uint8)
    encoder(pixels)
    spent: list[float] = []
    while sum(spent) < MEASURED_S:
        start = clock()
        encoder(pixels)
        spent.append(clock() - start)
    return encoder.dim, len(pixels) / min(spent), f"the fastest of {len(spent)} batches of 4 by {name}"


def _passes(study: Study, way: Method) -> int:
    """Bags a case and step."""
    own = study.model.as_published and "classification" in way.losses
    return 1 + ("intra_modality" in way.losses) + ("info_nce" in way.losses) + own


def _work(study: Study, way: Method, dim: int, cap: int, mean: float, split: dict[str, int]) -> float:
    """FLOP of one method on all folds of a marker: epochs, validation, and the embedding of all slides at the end."""
    whole = forward_flops(way.encoder, dim, study.model, round(mean))
    work = 2 * sum(split.values()) * whole
    if way.losses:
        times = 4 if study.model.checkpoint_activations and way.encoder == "longnet" else 3
        step = forward_flops(way.encoder, dim, study.model, cap) * times * _passes(study, way)
        check = whole * (1 + ("intra_modality" in way.losses) + ("info_nce" in way.losses))
        work += study.training.epochs * (step * split["train"] + check * split["val"])
    return study.evaluation.folds * work
