"""What the steps left, read for a table or a figure."""

from typing import Any

import pandas as pd

from hsa import files
from hsa.pipeline.steps.probe import train
from hsa.study.study import Study


def embeddings(study: Study, marker: str, method: str, stain: str, progress: bool = True) -> pd.DataFrame:
    """Read the embeddings of one method, training it first if need be.

    Args:
        study: the study, with one seed.
        marker: the marker.
        method: the method.
        stain: "HE" or "IHC".
        progress: show bars.

    Returns:
        Columns slide_id, case_id, patient_id, stain, fold, split, label, v0, v1, ...
    """
    train(study, marker, method, progress)
    return pd.read_parquet(study.paths.method(marker, method) / f"embeddings_{stain.lower()}.parquet")


def describe(study: Study, marker: str, method: str) -> dict[str, Any]:
    """Describe a trained method in one row: title, slide encoder, losses, trained parameters, embedding width."""
    from hsa.models.checkpoints import load_fold

    study = study.at(study.seed)
    train(study, marker, method)
    model, record = load_fold(study.paths.method(marker, method), 0)
    learned = sum(p.numel() for p in model.parameters() if p.requires_grad) if record["history"] else 0
    vectors = embeddings(study, marker, method, "HE").filter(regex=r"^v\d+$")
    losses = ", ".join(study.methods[method].losses).replace("_", " ") or "none"
    return {
        "method": study.methods[method].title,
        "slide encoder": study.methods[method].encoder,
        "losses": losses,
        "trained parameters": f"{learned:,}",
        "embedding width": vectors.shape[1],
    }


def history(study: Study, marker: str, method: str) -> pd.DataFrame:
    """Gather the losses of every fold of a trained method.

    Returns:
        Columns fold, epoch, split (train or val), one for each loss, and total; of the first seed.
    """
    study = study.at(study.seed)
    train(study, marker, method)
    rows = []
    for path in sorted(study.paths.method(marker, method).glob("fold*.json")):
        record = files.read_json(path)
        for epoch in record["history"]:
            for split in ("train", "val"):
                rows.append({"fold": record["fold"], "epoch": epoch["epoch"], "split": split, **epoch[split]})
    return pd.DataFrame(rows)


def best_epochs(study: Study, marker: str, method: str) -> pd.Series:
    """Give the epoch that each fold of a trained method kept: that of the lowest total validation loss."""
    validation = history(study, marker, method).query("split == 'val'")
    return validation.loc[validation.groupby("fold")["total"].idxmin()].set_index("fold")["epoch"]
