"""The steps of a study, one file a step: each makes its files if they are missing or out of date, and gives them.

In order: `cohort` (with `render` where the tissue is virtual), `features` (with `encode` or `imported`), `tuning`,
`fit`, `probe`, `evaluation`, `summary`. `records` reads what they left. The command line, the workflow and the
notebooks call these same functions; `hsa.pipeline.door` tells what is out of date.
"""

from hsa.pipeline.steps.cohort import make_cohort
from hsa.pipeline.steps.evaluation import evaluate
from hsa.pipeline.steps.features import make_features
from hsa.pipeline.steps.probe import train
from hsa.pipeline.steps.records import best_epochs, describe, embeddings, history
from hsa.pipeline.steps.summary import read_summary, summarise
from hsa.pipeline.steps.tuning import tune

__all__ = [
    "best_epochs",
    "describe",
    "embeddings",
    "evaluate",
    "history",
    "make_cohort",
    "make_features",
    "read_summary",
    "summarise",
    "train",
    "tune",
]
