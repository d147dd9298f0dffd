"""What a reader must know beside a prediction: what the models learned from, whether they know this slide.

The same words go to the shell, the tables and the figures.
"""

from typing import NamedTuple

from hsa.screening.predictor import Predictor
from hsa.training import seen

NOTICE = "Research use only. Not a medical device."
SIMULATED, PATIENTS, UNKNOWN = "simulated tissue", "slides of a manifest", "not recorded"


class Exposure(NamedTuple):
    """How the models met one slide before.

    Attributes:
        column: for a table: "no", "4 of 5 folds", or "not recorded".
        sentence: for a reader; empty if it is a new slide.
    """

    column: str
    sentence: str


def trained_on(predictor: Predictor) -> str:
    """What the models learned from, for a table: simulated tissue, slides of a manifest, or not recorded."""
    if predictor.origin is None:
        return UNKNOWN
    return SIMULATED if predictor.origin.kind == "virtual" else PATIENTS


def exposure(predictor: Predictor, sha256: str) -> Exposure:
    """Tell whether a slide was in the training of a method, by the SHA-256 of its file.

    A slide that was saved anew in another format is another file, and passes for new.
    """
    known = predictor.seen
    use = known.slides.get(sha256) if known else None
    if known and use and use.folds:
        share = f"{use.folds} of {known.folds} folds"
        return Exposure(share, f"in training, {share}: not the prediction of a new slide")
    if known and not known.unknown and sha256:
        return Exposure("no", "")
    return Exposure(UNKNOWN, "whether it was in training is not recorded")


def is_known(column: str) -> bool:
    """Whether a slide with this `Exposure.column` was in training."""
    return column not in ("no", UNKNOWN)


def of_origin(predictor: Predictor) -> list[str]:
    """Say, in no line or one, that the models are of simulated tissue, or that nobody knows."""
    if predictor.origin is None:
        return [
            "Trained on simulated tissue or on patients' slides: this model's folder does not say, since an older "
            f"version made it. {_remedy('study.json')}"
        ]
    if predictor.origin.kind == "virtual":
        return [
            f"Trained on simulated tissue ({predictor.origin.cases} virtual cases): what it says of a real slide is "
            "not a finding about that slide or its patient."
        ]
    return []


def of_training(predictor: Predictor) -> list[str]:
    """Say, in no line or one, why it cannot be told of every slide whether it was in training."""
    if predictor.seen is None:
        return [f"Whether a slide was in training is not recorded in this model's folder. {_remedy(seen.FILE)}"]
    if predictor.seen.unknown:
        return [
            f"Of {predictor.seen.unknown} slides of the training the file is not recorded, since another tool or an "
            "older version made their bags: whether a slide is one of them is not known."
        ]
    return []


def of_numbers(predictor: Predictor) -> list[str]:
    """Say, in lines for any summary, what the numbers are and are not."""
    several = len(predictor.all_classes) > 2
    every = f"the classes {', '.join(predictor.all_classes)}" if several else "both classes"
    return [
        f"Probability of {predictor.classes[1]}: the mean log odds of {len(predictor.scores)} models. It weighs "
        f"{every} equally; in the study's cohort {predictor.prevalence:.0%} of the cases were {predictor.classes[1]}.",
        "Low and high are the lowest and the highest of these models, not a confidence interval.",
        NOTICE,
    ]


def on_figure(predictor: Predictor, met: Exposure) -> list[str]:
    """Say the same in short lines, for a figure of one slide."""
    origin = {
        SIMULATED: "Model of simulated tissue: not a finding about a real slide or its patient.",
        UNKNOWN: "Whether the model is of simulated tissue is not recorded.",
    }.get(trained_on(predictor))
    slide = met.sentence and f"This slide: {met.sentence}."
    return [*filter(None, [origin, slide]), NOTICE]


def _remedy(name: str) -> str:
    return (
        f"To have it recorded in {name}, delete made.json and probe.json there and run `hsa train` for its study; "
        "folds that are up to date are kept."
    )
