"""Int8 tile encoders on the CPU: quantised by NNCF, run by OpenVINO, behind a gate of similarity to float32."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hsa import files
from hsa.encoders import hub
from hsa.errors import InputError

if TYPE_CHECKING:
    import torch

COSINE = 0.99  # of every tile held out
CENTRED = 0.95  # on average: rounding makes up less than a tenth of the variance between tiles


def quantise(
    name: str,
    folder: str | Path,
    tiles: np.ndarray,
    network: "torch.nn.Module",
    weights: str,
    prepare: "torch.nn.Module | None" = None,
    batch: int = 16,
) -> dict[str, Any]:
    """Make the int8 model of a network: calibrated on two thirds of the tiles, judged on the others.

    Two similarities to float32 are measured on the tiles held out: the cosine of the features, and the cosine once
    their mean over the tiles is taken away. The first is high for any two tiles if features share a large mean, as
    those of lite0-mid do; the second is not.

    Args:
        name: of the encoder, for messages.
        folder: where `int8.xml`, `int8.bin` and `int8.json` go.
        tiles: (N, S, S, 3) uint8, 48 or more, slide by slide in random order: those held out are of other slides.
        network: output of `prepare` (or tiles) -> (B, D) float32.
        weights: what tells its weights, stored with the model.
        prepare: tiles -> what the network takes.
        batch: tiles a call.

    Returns:
        What `int8.json` holds: the similarities (lowest and mean), numbers of tiles, versions, weights.

    Raises:
        InputError: too few tiles, a missing package, or similarities below 0.99 (lowest cosine) or 0.95 (mean centred
            cosine). Then no file is written.
    """
    import torch

    openvino, nncf = _package("openvino"), _package("nncf")
    if len(tiles) < 48:
        raise InputError(f"encoder {name}: {len(tiles)} tiles are too few to make an int8 model; give 48 or more")
    with torch.inference_mode():
        inputs = torch.from_numpy(np.ascontiguousarray(tiles))
        inputs = torch.cat([prepare(part) for part in inputs.split(batch)]) if prepare else inputs
        seen, held = inputs[: 2 * len(inputs) // 3], inputs[2 * len(inputs) // 3 :]
        expected = torch.cat([network(part) for part in held.split(batch)]).numpy()
        model = openvino.convert_model(network, example_input=inputs[:2])
    model.reshape([-1, *inputs.shape[1:]])
    convolutions = sum(isinstance(module, torch.nn.Conv2d) for module in network.modules())
    quantised = nncf.quantize(
        model,
        nncf.Dataset([part.numpy() for part in seen.split(1)]),
        subset_size=len(seen),
        model_type=nncf.ModelType.TRANSFORMER if convolutions <= 1 else None,
    )
    run = _compiled(quantised, threads=torch.get_num_threads())
    found = np.concatenate([run(part.numpy()) for part in held.split(batch)])
    plain, centred = _cosines(found, expected), _cosines(found - expected.mean(0), expected - expected.mean(0))
    record = {
        "encoder": name,
        "weights": weights,
        "cosine_lowest": float(plain.min()),
        "cosine_mean": float(plain.mean()),
        "centred_cosine_lowest": float(centred.min()),
        "centred_cosine_mean": float(centred.mean()),
        "tiles_calibration": len(seen),
        "tiles_held_out": len(held),
        "openvino": openvino.__version__,
        "nncf": nncf.__version__,
    }
    if not (record["cosine_lowest"] >= COSINE and record["centred_cosine_mean"] >= CENTRED):
        raise InputError(
            f"encoder {name}: its int8 model is too far from float32 on {len(held)} tiles held out: lowest cosine "
            f"{plain.min():.4f} (needed {COSINE}), mean centred cosine {centred.mean():.4f} (needed {CENTRED}). Leave "
            "out `runtime: openvino-int8`"
        )
    target = Path(folder) / "int8.xml"
    target.parent.mkdir(parents=True, exist_ok=True)
    openvino.save_model(quantised, target, compress_to_fp16=False)
    files.write_json(target.with_suffix(".json"), record)
    return record


def runner(
    name: str, folder: str | Path | None, weights: str, prepare: "torch.nn.Module | None", threads: int
) -> tuple[Callable[[np.ndarray], np.ndarray], str, str]:
    """Load the int8 model of an encoder.

    Args:
        name: of the encoder.
        folder: where `quantise` put it.
        weights: those of the float32 network at hand.
        prepare: tiles -> what the network takes.
        threads: that one call may use.

    Returns:
        (B, S, S, 3) uint8 -> (B, D) float32; how it runs; what tells its weights.

    Raises:
        InputError: no int8 model, or that of other weights.
    """
    import torch

    if folder is None or not (Path(folder) / "int8.json").is_file():
        raise InputError(
            f"encoder {name}: no int8 model (int8.json) in {folder}: `hsa features` makes it from tiles of the "
            "study; or leave out `runtime: openvino-int8`"
        )
    record = files.read_json(Path(folder) / "int8.json")
    if record["weights"] != weights or record["encoder"] != name:
        raise InputError(
            f"encoder {name}: the int8 model in {folder} is of {record['encoder']} {record['weights']}, the encoder "
            f"has {weights}: delete the folder and make it again"
        )
    model = _package("openvino").Core().read_model(Path(folder) / "int8.xml")
    network = _compiled(model, threads)

    def run(tiles: np.ndarray) -> np.ndarray:
        tiles = np.ascontiguousarray(tiles)
        if prepare is None:
            return network(tiles)
        with torch.inference_mode():
            return network(prepare(torch.from_numpy(tiles)).numpy())

    how = f"openvino int8, lowest cosine to float32 {record['cosine_lowest']:.4f}"
    return run, how, hub.fingerprint(Path(folder) / "int8.bin")


def _compiled(model: Any, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = _package("openvino").compile_model(model, "CPU", settings)
    return lambda inputs: compiled(inputs)[0]


def _cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return (left * right).sum(1) / (np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1))


def _package(name: str) -> Any:
    # Both would report their use to their makers; without this package they do not.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return hub.package(name, extra="int8")
