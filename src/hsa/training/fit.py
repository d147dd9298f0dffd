"""Train a method on every fold, and embed every slide with the model of every fold.

Prediction needs the H&E bags alone: `embed_he` reads nothing else.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from lightning_fabric import Fabric

from hsa.bags.batches import Bags
from hsa.cohorts.cohort import Cohort, fold_table
from hsa.cohorts.manifest import HE
from hsa.cohorts.pairing import pair
from hsa.files import write_frame
from hsa.fingerprint import fingerprint
from hsa.models import checkpoints, published
from hsa.models.model import STAINS
from hsa.study.settings import Training
from hsa.study.study import Study
from hsa.training.fold import train_fold
from hsa.training.start import first_weights, model_input, one_device, open_bags, repeatable, start_model
from hsa.training.terms import Run
from hsa.training.validation import embed_slides
from hsa.workers import bar


def fit(
    study: Study,
    cohort: Cohort,
    marker: str,
    method: str,
    folder: str | Path,
    *,
    chosen: Mapping[int, Training] | None = None,
    progress: bool = True,
    fabric: Fabric | None = None,
    threads: int = 1,
) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """Train a method on every fold of a marker, then embed every slide with the model of every fold.

    What is done is kept: finished folds with the same stamp, finished epochs of an interrupted one. A run
    that was interrupted ends in the same weights as one that was not: bit for bit on a CPU, on a GPU as far as
    torch has deterministic kernels (it warns of those that it has not).

    Args:
        study: the study.
        cohort: its cohort; the bags lie in `study.paths.bags`.
        marker: which stain to pair with H&E, and whose labels to learn.
        method: name of one of the study's methods.
        folder: gets fold<k>.safetensors, fold<k>.json, embeddings_he.parquet, embeddings_ihc.parquet.
        chosen: settings of each fold, where they were tuned; by default the study's for all.
        progress: show a bar over the epochs of all folds.
        fabric: launched, to use several devices; by default one, a GPU if there is one.
        threads: of the CPU. Sums depend on their number in the last bits, so it is not the machine's.

    Returns:
        Embeddings of the H&E slides and of the IHC slides, as `embed_he` gives them. None on processes other
        than the first.

    Raises:
        InputError: an unknown method, or a bag that is missing or of another tile encoder.
    """
    study.require_method(method)
    folder, way = Path(folder), study.methods[method]
    fabric = fabric or one_device(study.training)
    bags, table = open_bags(study, way.encoder), fold_table(study, cohort, marker)
    folds = pair(table, way.pairs, study.evaluation.fold_seed)
    first, start = folds[folds["fold"] == 0], first_weights(study, method)
    origin = [bags.origin(first["he"]), bags.origin(first["ihc"]), folds.to_csv(index=False)]
    epochs = study.training.epochs if way.losses else 0
    total, name = study.evaluation.folds * epochs, f"{marker} {method}"
    shown = progress and fabric.is_global_zero
    with repeatable(fabric.device, threads), bar(total=total, desc=name, unit="epoch", progress=shown) as done:
        for fold in sorted(set(folds["fold"].tolist())):
            rows = folds[folds["fold"] == fold]
            training = (chosen or {}).get(fold, study.training)
            settings: dict[str, Any] = {
                "input": model_input(study, bags, first["he"].iloc[0], marker, method),
                "model": study.model.model_dump(mode="json"),
                "weights": published.fingerprint(start),
                "training": training.model_dump(mode="json"),
                "losses": list(way.losses),
                "seed": study.seed,
                "processes": fabric.world_size,
                "threads": threads,
            }
            current = fingerprint([settings, origin], __name__)
            if checkpoints.is_finished(folder, fold, current):
                done.update(epochs)
                continue
            model = start_model(study, bags, rows, settings["input"], start)
            history = []
            if epochs:
                run = Run(fabric, bags, training, way.losses, (study.seed, fold))
                resume = checkpoints.Resume(folder, fold, current)
                history = train_fold(run, model, rows, resume, done.update)
            if fabric.is_global_zero:
                record = {"marker": marker, "method": method, "fold": fold, "settings": settings}
                checkpoints.save_fold(folder, fold, model, current, record | {"history": history})
            fabric.barrier()
    if not fabric.is_global_zero:
        return None
    he, ihc = (_embed(table, stain, marker, folder, bags, fabric, threads) for stain in STAINS)
    for stain, frame in zip(STAINS, (he, ihc), strict=True):
        write_frame(folder / f"embeddings_{stain}.parquet", frame)
    return he, ihc


def embed_he(
    study: Study,
    cohort: Cohort,
    marker: str,
    folder: str | Path,
    *,
    fabric: Fabric | None = None,
    threads: int = 1,
) -> pd.DataFrame:
    """Embed the H&E slides with the models that `fit` left in `folder`. No IHC bag is read.

    Args:
        study: the study.
        cohort: its cohort.
        marker: whose folds and labels.
        folder: of the method.
        fabric: launched; by default one device, a GPU if there is one.
        threads: of the CPU.

    Returns:
        A row a slide and fold: slide_id, case_id, patient_id, stain, fold, split, label, category where the marker has
        more than two classes, v0, v1, ... (float32). Its `attrs` say which state of the encoder the embedding is.

    Raises:
        InputError: a model or an H&E bag is missing.
    """
    fabric, folds = fabric or one_device(study.training), fold_table(study, cohort, marker)
    _, record = checkpoints.load_fold(Path(folder), 0)
    bags = open_bags(study, record["settings"]["input"]["encoder"])
    return _embed(folds, "he", marker, Path(folder), bags, fabric, threads)


def _embed(
    folds: pd.DataFrame, stain: str, marker: str, folder: Path, bags: Bags, fabric: Fabric, threads: int
) -> pd.DataFrame:
    frames = []
    there = folds[folds[stain] != ""]
    for fold in sorted(set(there["fold"].tolist())):
        rows = there[there["fold"] == fold]
        model, record = checkpoints.load_fold(folder, fold)
        training = Training(**record["settings"]["training"])
        with repeatable(fabric.device, threads):
            values = embed_slides(fabric, model.to(fabric.device), bags, rows[stain].tolist(), stain, training)
        named: dict[str, Any] = {
            "slide_id": rows[stain],
            "case_id": rows["case_id"],
            "patient_id": rows["patient_id"],
            "stain": HE if stain == "he" else marker,
            "fold": fold,
            "split": rows["split"],
            **{key: rows[key] for key in ("label", "category") if key in rows},
        }
        columns = [f"v{i}" for i in range(values.shape[1])]
        vectors = pd.DataFrame(values.numpy(), columns=columns, index=rows.index)
        frames.append(pd.concat([pd.DataFrame(named), vectors], axis=1))
    frame = pd.concat(frames, ignore_index=True)
    frame.attrs.update(encoder=record["settings"]["input"]["encoder"], **model.options)
    return frame
