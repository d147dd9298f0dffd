import numpy as np
import pandas as pd
import pytest

from hsa.cohorts.cohort import fold_table
from hsa.errors import InputError
from hsa.evaluation.ceilings import oracle_embeddings
from hsa.evaluation.probe import probe_folds


def test_the_oracle_reads_the_latents_of_its_own_case(tiny_study, tiny_cohort):
    folds = fold_table(tiny_study, tiny_cohort, "P53")
    labels = tiny_cohort.labels["P53"]
    noise = np.random.default_rng(0).standard_normal(len(labels))
    truth = pd.DataFrame({"case_id": labels.index, "latent_size": 9.0 * labels.to_numpy(), "latent_other": noise})
    frame = oracle_embeddings(folds, truth.sample(frac=1, random_state=0))
    assert (frame["v0"] == 9 * frame["label"]).all() and len(frame) == len(folds)
    predictions, _ = probe_folds(frame, seed=0)
    assert (predictions["pred"] == predictions["label"]).all()
    with pytest.raises(InputError, match="'C05' is missing"):
        oracle_embeddings(folds, truth[truth["case_id"] != "C05"])
