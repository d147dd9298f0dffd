"""What could be reached at best: a probe on the truth of the virtual tissue, and one on the IHC slides themselves."""

import pandas as pd

from hsa.cohorts.manifest import HE
from hsa.errors import InputError

TITLES = {"oracle": "Oracle: true morphology", "ihc": "IHC slide itself"}


def oracle_embeddings(folds: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """Take the true morphology latents of each case as its embedding: what a perfect observer of H&E sees.

    The latents carry the imprint of the marker and its noise, and the nuisance variation. What the label holds
    beyond them, no H&E slide of this cohort shows.

    Args:
        folds: of `hsa.cohorts.cohort.fold_table`.
        truth: truth.csv of a virtual cohort: case_id, latent_<name>.

    Returns:
        Embeddings frame of stain HE.

    Raises:
        InputError: a case that the truth does not hold.
    """
    latents = truth.set_index("case_id").filter(like="latent_")
    missing = set(folds["case_id"]) - set(latents.index)
    if missing:
        raise InputError(f"truth.csv: case {min(missing)!r} is missing. Make the cohort again with `hsa cohort`.")
    values = latents.loc[folds["case_id"]].to_numpy()
    vectors = pd.DataFrame(values, columns=[f"v{i}" for i in range(values.shape[1])])
    names = ["case_id", "patient_id", "fold", "split", "label", "category"]
    keys = folds[[name for name in names if name in folds]].reset_index(drop=True)
    return pd.concat([keys.assign(stain=HE, slide_id=folds["he"].to_numpy()), vectors], axis=1)
