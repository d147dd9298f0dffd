"""Whose IHC section an H&E slide is trained with: that of its own case or, as a control, that of another.

The controls change one thing. Training and validation cases get another partner of their own side of the fold; test
cases keep their own, so that every method is measured by the same pairs.
"""

import numpy as np
import pandas as pd

from hsa.errors import InputError
from hsa.study.settings import Pairs


def pair(folds: pd.DataFrame, pairs: Pairs, seed: int) -> pd.DataFrame:
    """Give the cases of a fold table the IHC slides that a method is trained with.

    Args:
        folds: of `cohort.fold_table`: case_id, patient_id, ihc, label, fold, split; a row a case and fold.
        pairs: "own" changes nothing; "shuffled" gives a case the IHC slide of another patient; "same-label" that of
            another patient whose label, as far as training knows it, is the same: what is shared is then the marker and
            not the specimen.
        seed: of the draw.

    Returns:
        The table with other values in `ihc`, in its order. Each IHC slide stands as often as before in each side of a
        fold, and cases without one stay without.

    Raises:
        InputError: the cases among which to exchange are of one patient, or half of them are.
    """
    if pairs == "own":
        return folds
    known = folds["label"].where(folds["split"] != "pairs", -1) if pairs == "same-label" else 0
    side = folds["split"].replace("pairs", "train")
    there = folds[(folds["ihc"] != "") & (side != "test")].assign(side=side, known=known)
    ihc = folds["ihc"].copy()
    for (fold, part, label), rows in there.groupby(["fold", "side", "known"]):
        most = int(rows["patient_id"].value_counts().max())
        if 2 * most > len(rows):
            alike = f" of label {label}" if pairs == "same-label" else ""
            raise InputError(
                f"pairs: {pairs}: fold {fold} has {len(rows)} {part} cases{alike} with an IHC slide, {most} of one "
                "patient, so not each finds a partner of another patient; use fewer folds or more cases."
            )
        rng = np.random.default_rng([seed, int(rows["fold"].iloc[0]), int(rows["known"].iloc[0]) + 1, part == "val"])
        place = {patient: i for i, patient in enumerate(rng.permutation(rows["patient_id"].unique()))}
        order = rows.loc[rows["patient_id"].map(place).sort_values(kind="stable").index]
        ihc[order.index] = np.roll(order["ihc"].to_numpy(), most)  # one patient's cases lie together: none meets itself
    return folds.assign(ihc=ihc)
