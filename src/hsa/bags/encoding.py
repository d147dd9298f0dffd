"""From a cohort to its bags: what is done is kept, what has changed is made again, several slides at a time."""

from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import pandas as pd

from hsa import files
from hsa.bags.adopted import Adopted
from hsa.bags.bag import attributes, write_bag
from hsa.bags.features import VERSION, encode_slide, sample_tiles, source
from hsa.encoders.encoder import Options, TileEncoder, device_of, quantise, tile_encoder, weights_of
from hsa.errors import InputError
from hsa.slides.readers import split_scene
from hsa.slides.resolution import OVERRIDE, givens
from hsa.study.settings import Encoder, Tiles
from hsa.workers import bar, run


def encode_cohort(
    slides: pd.DataFrame,
    folder: str | Path,
    encoder: Encoder,
    tiles: Tiles,
    *,
    stamp: str,
    settings: str = "",
    keep: bool = False,
    workers: int = 1,
    progress: bool = True,
) -> pd.DataFrame:
    """Encode every slide of a cohort to `folder/<slide_id>.h5`; slides that are done are kept.

    Done means: the bag carries this stamp and the encoder's weights, and the slide, if it is still there, has the
    size and the manifest mpp it was made from. An interrupted run therefore goes on where it stopped.

    Args:
        slides: a row a slide with `slide_id`, `path` and `mpp` (NaN where the file holds it);
            optionally `mpp_override`.
        folder: where the bags go.
        encoder: name, runtime and batch of the tile encoder.
        tiles: which tiles to take.
        stamp: what the bags depend on besides the slide and the encoder's weights: `hsa.pipeline.stamps`.
        settings: fingerprint of the settings alone, `hsa.pipeline.stamps.bag_settings`.
        keep: keep bags of another stamp too, if their settings and `hsa.bags.features.VERSION` are today's: other code
            made them, but it makes the same features. `folder`/adopted.json notes their stamps, and they count as of
            this stamp from then on.
        workers: on a CPU processes, one thread each; on a GPU threads that read tiles for one process. Bags do not
            depend on their number.
        progress: show a progress bar.

    Returns:
        A row a slide in the order given: slide_id, status (`"kept"` or `"encoded"`), tiles,
        tissue_fraction, warning.

    Raises:
        InputError: some slides could not be encoded; all others are done by then. Lists which and why.
    """
    adopted = Adopted(Path(folder), stamp, settings if keep else None)
    if encoder.runtime == "openvino-int8":
        _make_int8(slides, Path(folder) / "int8", encoder, tiles, adopted, {"stamp": stamp, "settings": settings})
    options = encoder_options(encoder, tiles, Path(folder) / "int8")
    weights = weights_of(encoder.name, options)
    made = {"encoder": encoder.name} | ({"encoder_weights": weights} if weights else {})
    processes, readers = (workers, 1) if device_of(encoder.name, options) == "cpu" else (1, workers)
    rows, pending = [], []
    for slide_id, path, mpp in zip(slides["slide_id"], slides["path"], givens(slides), strict=True):
        path = Path(path)
        target = Path(folder) / f"{slide_id}.h5"
        wanted = made | (source(path, mpp) if split_scene(path)[0].exists() else {})
        attrs = attributes(target)
        marked = mpp is not None and mpp.override
        if (
            attrs is not None
            and wanted.items() <= attrs.items()
            and (attrs.get("mpp_from") == OVERRIDE) == marked
            and adopted.takes(attrs)
        ):
            rows.append(_report(slide_id, "kept", attrs))
        else:
            how = {"mpp": mpp, "batch": encoder.batch, "readers": readers, "stamp": stamp, "settings": settings}
            pending.append(partial(_encode_one, slide_id, path, target, encoder.name, options, tiles, how))
    adopted.write()
    with bar(total=len(slides), initial=len(rows), desc="slides", progress=progress) as shown:
        for row in run(pending, processes):
            rows.append(row)
            shown.update()
    _encoder.cache_clear()  # a foundation model holds gigabytes of the GPU that training may want next
    problems = sorted(row["problem"] for row in rows if "problem" in row)
    if problems:
        raise InputError(
            f"{len(problems)} of {len(slides)} slides could not be encoded, the others are done:\n  "
            + "\n  ".join(problems)
        )
    columns = ["slide_id", "status", "tiles", "tissue_fraction", "warning"]
    return pd.DataFrame(rows, columns=columns).set_index("slide_id").loc[slides["slide_id"]].reset_index()


def encoder_options(encoder: Encoder, tiles: Tiles, int8: str | Path | None = None, threads: int = 1) -> Options:
    """Give what the tile encoder of a study is made for.

    Args:
        encoder: the study's.
        tiles: the study's.
        int8: folder of the int8 model, where there is one.
        threads: that one call may use.
    """
    named = encoder.model_dump(include={"runtime", "weights", "device", "precision"})
    return Options(**named, size_px=tiles.size_px, mpp=tiles.mpp, int8=int8, threads=threads)


def _make_int8(
    slides: pd.DataFrame, folder: Path, encoder: Encoder, tiles: Tiles, adopted: Adopted, marks: dict[str, str]
) -> None:
    """Make the int8 model once for the cohort; make it again when what it was made of has changed."""
    options = replace(encoder_options(encoder, tiles), runtime="torch")
    weights, file = weights_of(encoder.name, options), folder / "int8.json"
    record = files.read_json(file) if file.is_file() else {}
    if adopted.takes(record, bag=False) and weights in (None, record["weights"]):
        return
    record = quantise(encoder.name, folder, sample_tiles(slides, tiles), **vars(options))
    files.write_json(file, record | marks | {"features_version": VERSION})


def _encode_one(
    slide_id: str, path: Path, target: Path, name: str, options: Options, tiles: Tiles, how: dict[str, Any]
) -> dict[str, Any]:
    """Make one bag; what the report says of it."""
    network = _encoder(name, options)
    try:
        bag = encode_slide(path, network, tiles, slide_id=slide_id, **how)
    except (InputError, OSError) as error:
        return {"slide_id": slide_id, "problem": f"{slide_id}: {error}"}
    write_bag(target, bag)  # a disk that is full ends the run: no other slide would fit
    return _report(slide_id, "encoded", bag.attrs | {"tiles": len(bag.coords)})


def _report(slide_id: str, status: str, attrs: dict[str, Any]) -> dict[str, Any]:
    row = {"slide_id": slide_id, "status": status, "tiles": attrs["tiles"]}
    return row | {"tissue_fraction": attrs["tissue_fraction"], "warning": attrs["mask_warning"]}


@cache
def _encoder(name: str, options: Options) -> TileEncoder:
    """One encoder a process: making it takes seconds."""
    return tile_encoder(name, **vars(options))
