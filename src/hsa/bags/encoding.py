"""From a cohort to its bags: what is done is kept, what has changed is made again, several slides at a time."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import cache, partial
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hsa import files
from hsa.bags.adopted import Adopted
from hsa.bags.bag import write_bag
from hsa.bags.content import is_intact
from hsa.bags.features import VERSION, Order, encode_slides, sample_tiles, sha256, source
from hsa.bags.known import Known, state_of
from hsa.encoders.encoder import (
    Options,
    TileEncoder,
    device_of,
    is_concurrent,
    quantise,
    tile_encoder,
    weights_of,
)
from hsa.errors import InputError
from hsa.slides.readers import split_scene
from hsa.slides.resolution import OVERRIDE, givens
from hsa.study.settings import Encoder, Tiles
from hsa.workers import bar, run

if TYPE_CHECKING:  # half a second, which each worker would wait for
    import pandas as pd

# Threads a process. Where they neither decode nor encode, Python runs one at a time: two were always busy on small
# slides, of four every third waited for another one.
THREADS = 2
# Attributes that tell whether a bag is done, and what is reported of it.
LOOKED_AT = (
    *("encoder", "encoder_weights", "source", "source_bytes", "manifest_mpp", "mpp_from", "stamp", "source_sha256"),
    *("settings", "features_version", "tissue_fraction", "mask_warning"),
)

Row = dict[str, Any]  # of the report
How = dict[str, Any]  # options of `encode_slides`


class Looked(NamedTuple):
    """A slide, what its bag says if that is done, and the state of its files (None where there are none)."""

    order: Order
    attrs: dict[str, Any] | None
    state: list[int] | None


def encode_cohort(
    slides: "pd.DataFrame",
    folder: str | Path,
    encoder: Encoder,
    tiles: Tiles,
    *,
    stamp: str,
    settings: str = "",
    keep: bool = False,
    verify: bool = False,
    workers: int = 1,
    progress: bool = True,
) -> "pd.DataFrame":
    """Encode every slide of a cohort to `folder/<slide_id>.h5`; slides that are done are kept.

    Done means: the bag carries this stamp and the encoder's weights, and the slide, if it is still there, is the one
    that it was made from, with its manifest mpp. A slide of the size and time that it had then is not read; any other
    is, and its checksum compared. An interrupted run therefore goes on where it stopped.

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
        verify: believe no size or time: read every slide, and every bag, and compare their checksums.
        workers: slides or batches worked on at a time: threads where the encoder lets several call it, or runs on a
            GPU; else processes. Bags do not depend on their number.
        progress: show a progress bar.

    Returns:
        A row a slide in the order given: slide_id, status (`"kept"` or `"encoded"`), tiles,
        tissue_fraction, warning, source_sha256.

    Raises:
        InputError: some slides could not be encoded; all others are done by then. Lists which and why.
    """
    adopted = Adopted(Path(folder), stamp, settings if keep else None)
    if encoder.runtime == "openvino-int8":
        _make_int8(slides, Path(folder) / "int8", encoder, tiles, adopted, {"stamp": stamp, "settings": settings})
    options = encoder_options(encoder, tiles, Path(folder) / "int8")
    weights = weights_of(encoder.name, options)
    made = {"encoder": encoder.name} | ({"encoder_weights": weights} if weights else {})
    known, rows, pending = Known(Path(folder), LOOKED_AT), [], []
    looked: list[Looked] = []
    for slide_id, path, mpp in zip(slides["slide_id"], map(Path, slides["path"]), givens(slides), strict=True):
        state = state_of(path) if split_scene(path)[0].exists() else None
        told = source(path, mpp) if state else {}
        attrs = known.attributes(slide_id)
        marked = mpp is not None and mpp.override
        done = (
            attrs is not None
            and (made | told).items() <= attrs.items()
            and (attrs.get("mpp_from") == OVERRIDE) == marked
            and adopted.takes(attrs)
        )
        looked.append(Looked(Order(slide_id, path, mpp), attrs if done else None, state))
    replaced = _replaced(looked, known, Path(folder), verify, workers, progress)
    for order, attrs, state in looked:
        if attrs is None or order.slide_id in replaced:
            pending.append((state[1] if state else 0, order))
        else:
            rows.append(_report(order.slide_id, "kept", attrs))
    adopted.write()
    known.write()
    how = {"batch": encoder.batch, "stamp": stamp, "settings": settings}
    states = {one.order.slide_id: one.state for one in looked}
    with bar(total=len(slides), initial=len(rows), desc="slides", progress=progress) as shown:
        for row in _encode_all(pending, workers, Path(folder), encoder.name, options, tiles, how):
            rows.append(row)
            if "problem" not in row and (state := states[row["slide_id"]]):
                known.meet(row["slide_id"], state, row["source_sha256"])
            shown.update()
    known.write()
    _encoder.cache_clear()  # a foundation model holds gigabytes of the GPU that training may want next
    problems = sorted(row["problem"] for row in rows if "problem" in row)
    if problems:
        raise InputError(
            f"{len(problems)} of {len(slides)} slides could not be encoded, the others are done:\n  "
            + "\n  ".join(problems)
        )
    import pandas as pd

    columns = ["slide_id", "status", "tiles", "tissue_fraction", "warning", "source_sha256"]
    return pd.DataFrame(rows, columns=columns).set_index("slide_id").loc[slides["slide_id"]].reset_index()


def _replaced(looked: list[Looked], known: Known, folder: Path, verify: bool, workers: int, progress: bool) -> set[str]:
    """Find the bags of another slide than the one that is there, and, to verify, those whose numbers are not theirs."""

    def digest_of(one: Looked) -> str:
        return str((one.attrs or {}).get("source_sha256", "")) if one.state else ""

    def differs(one: Looked) -> bool:
        name, digest = one.order.slide_id, digest_of(one)
        if one.state and digest:
            if sha256(one.order.path) != digest:
                return True
            known.meet(name, one.state, digest)
        return verify and not is_intact(folder / f"{name}.h5")

    def is_doubted(one: Looked) -> bool:
        digest = digest_of(one)
        return verify or bool(one.state and digest and not known.is_slide_of(one.order.slide_id, one.state, digest))

    doubted = [one for one in looked if one.attrs is not None and is_doubted(one)]
    with ThreadPoolExecutor(workers) as pool:
        found = pool.map(differs, doubted)
        compared = bar(found, total=len(doubted), desc="slides compared", progress=progress and bool(doubted))
        return {one.order.slide_id for one, differ in zip(doubted, compared, strict=True) if differ}


def _encode_all(
    pending: list[tuple[int, Order]], workers: int, folder: Path, name: str, options: Options, tiles: Tiles, how: How
) -> Iterator[Row]:
    """Make the bags of slides, given with their sizes in bytes: in this process, or shared among several."""
    if not pending:
        return
    processes, threads = _shares(workers, len(pending), name, options)
    orders = [order for _, order in pending]
    if processes <= 1:
        yield from _encode(orders, folder, name, options, tiles, how | {"threads": threads})
        return
    # The largest slides go first, so that no process is left with one at the end. A few at a time, since the threads
    # of a process come to a stop between two shares.
    orders = [order for _, order in sorted(pending, key=itemgetter(0), reverse=True)]
    size = max(1, min(8, len(orders) // (4 * processes)))
    shares = [orders[start : start + size] for start in range(0, len(orders), size)]
    jobs = [partial(_encode_share, share, folder, name, options, tiles, how | {"threads": threads}) for share in shares]
    for rows in run(jobs, processes):
        yield from rows


def _shares(workers: int, slides: int, name: str, options: Options) -> tuple[int, int]:
    """How many processes encode, and with how many threads each."""
    if device_of(name, options) != "cpu":
        return 1, workers
    if is_concurrent(name, options):
        processes = min(slides, -(-workers // THREADS))
        return processes, -(-workers // processes)
    # Where one thread at a time encodes, the other reads ahead.
    return min(workers, slides), 2


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
    slides: "pd.DataFrame", folder: Path, encoder: Encoder, tiles: Tiles, adopted: Adopted, marks: dict[str, str]
) -> None:
    """Make the int8 model once for the cohort; make it again when what it was made of has changed."""
    options = replace(encoder_options(encoder, tiles), runtime="torch")
    weights, file = weights_of(encoder.name, options), folder / "int8.json"
    record = files.read_json(file) if file.is_file() else {}
    if adopted.takes(record, bag=False) and weights in (None, record["weights"]):
        return
    record = quantise(encoder.name, folder, sample_tiles(slides, tiles), **vars(options))
    files.write_json(file, record | marks | {"features_version": VERSION})


def _encode(orders: list[Order], folder: Path, name: str, options: Options, tiles: Tiles, how: How) -> Iterator[Row]:
    """Make bags; what the report says of each."""
    with closing(encode_slides(orders, _encoder(name, options), tiles, **how)) as bags:
        for order, made in bags:
            if isinstance(made, Exception):
                yield {"slide_id": order.slide_id, "problem": f"{order.slide_id}: {made}"}
                continue
            write_bag(folder / f"{order.slide_id}.h5", made)  # a full disk ends the run: no other slide would fit
            yield _report(order.slide_id, "encoded", made.attrs | {"tiles": len(made.coords)})


def _encode_share(orders: list[Order], folder: Path, name: str, options: Options, tiles: Tiles, how: How) -> list[Row]:
    return list(_encode(orders, folder, name, options, tiles, how))


def _report(slide_id: str, status: str, attrs: dict[str, Any]) -> Row:
    row = {"slide_id": slide_id, "status": status, "tiles": attrs["tiles"], "warning": attrs["mask_warning"]}
    return row | {key: attrs[key] for key in ("tissue_fraction", "source_sha256")}


@cache
def _encoder(name: str, options: Options) -> TileEncoder:
    """One encoder a process: making it takes seconds."""
    return tile_encoder(name, **vars(options))
