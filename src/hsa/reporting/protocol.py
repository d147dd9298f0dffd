"""What an experiment plans, from its study file and nothing else: no result stands here."""

from collections.abc import Callable

from hsa.evaluation.power import detectable_difference
from hsa.evaluation.selection import STRENGTHS
from hsa.pipeline.experiment.points import points, twin, units
from hsa.reporting.design import SUMS, plain
from hsa.reporting.tables import table
from hsa.study.settings import ManifestCohort, Method
from hsa.study.study import Study

AUC, CORRELATION, POWER, SEED_SD = 0.75, 0.6, 0.8, 0.03
LEVEL = 0.05
_PAIRS = {"own": "own", "shuffled": "another patient's", "same-label": "another patient's of the same label"}


def methods(study: Study) -> str:
    """List what is trained: losses, whose pairs, and whose tuned settings."""
    rows = []
    for name, way in study.methods.items():
        like = twin(study, name)
        settings = "its own" if like == name else f"those of *{plain(study.methods[like].title)}*"
        rows.append(
            [plain(way.title), _losses(way), _PAIRS[way.pairs] if "info_nce" in way.losses else "none", settings]
        )
    return table(["method", "trained with", "IHC slide of the pair", "tuned settings"], rows, words=True)


def contrasts(study: Study) -> str:
    """List what is asked, in the order of the study: the two methods of each contrast."""
    named = {name: plain(way.title) for name, way in study.methods.items()}
    rows = [
        [str(i), plain(pair.asks), f"*{named[pair.of]}* minus *{named[pair.minus]}*"]
        for i, pair in enumerate(study.contrasts.values(), 1)
    ]
    return table(["", "question", "contrast"], rows, words=True)


def budget(study: Study) -> str:
    """List the settings that every trained method tries, and the strengths of the probe."""
    if study.tuning is None:
        return ""
    keys = ("lr", "weight_decay", "temperature", "batch")
    tried = [study.training.model_copy(update=c.model_dump(exclude_none=True)) for c in study.tuning.candidates]
    rows = [[str(i), *(f"{getattr(one, key):g}" for key in keys)] for i, one in enumerate(tried, 1)]
    head = ["setting", "learning rate", "weight decay", "temperature", "batch"]
    strengths = f"C from {STRENGTHS[0]:g} to {STRENGTHS[-1]:g}, {len(STRENGTHS)} values evenly spaced on a log scale"
    return (
        f"{table(head, rows)}\nStrengths of the probe: {strengths}. Training seed of the trials: {study.tuning.seed}.\n"
    )


def places(study: Study) -> str:
    """List the points: what each changes, how many seeds and methods run there."""
    rows = []
    for point in points(study):
        what = f"{point.axis}: {point.value:g}" if point.value is not None else "the middle"
        count = len(list(units(point)))
        rows.append([what, str(len(point.study.seeds)), str(len(point.study.methods)), str(count)])
    return table(["point", "seeds", "methods", "runs"], rows)


def reach(study: Study, prevalence: float = 0.5) -> str:
    """Say which difference of AUC the middle shows, seeds counted: alone, and as the first of all that are corrected.

    Args:
        study: the study.
        prevalence: share of positive cases.
    """
    made = 0 if isinstance(study.cohort, ManifestCohort) else study.cohort.cases
    seeds, cases = len(study.seeds), study.design.cases or made
    tests = len(study.contrasts) * len(study.markers)
    found = [
        detectable_difference(cases, prevalence, AUC, CORRELATION, POWER, level, seeds, SEED_SD)
        for level in (LEVEL, LEVEL / tests)
    ]
    return (
        f"{cases} cases, {prevalence:.0%} of them positive, and {seeds} seeds. With a power of {POWER:.0%} one test "
        f"sees a difference of {found[0]:.3f}; the strictest of {tests}, corrected together, one of {found[1]:.3f}. "
        f"Taken for granted: the worse method has an AUC of {AUC}, the two AUCs correlate by {CORRELATION}, and "
        f"differences scatter from seed to seed with an SD of {SEED_SD}.\n"
    )


PLANS: tuple[Callable[[Study], str], ...] = (methods, contrasts, budget, places, reach)


def fragments(*studies: Study) -> dict[str, str]:
    """Write the pieces of the protocol that tell these studies: file name -> Markdown."""
    return {f"plan_{study.name}_{piece.__name__}.md": piece(study) for study in studies for piece in PLANS}


def _losses(way: Method) -> str:
    if not way.losses:
        return "nothing: it has no parameters"
    names = [SUMS[loss] for loss in way.losses]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
