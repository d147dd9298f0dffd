"""What the experiments found, kept with the book because it takes hours to make: for the first page and the results."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from hsa.files import REPOSITORY
from hsa.reporting import design, experiment, experiment_axes, figures, sentences, tables
from hsa.reporting.experiment import Findings
from hsa.study.study import Study, load

EXPERIMENTS = ("focal", "diffuse")
_FIRST = ("alignment", "pairing", "mean")  # the contrasts that the first page shows
_SHORT = """
```{figure} _generated/short.png
:name: fig-short
:alt: A panel for each cohort and marker; in each the contrasts with their intervals, and the verdict in words.

The full method minus three others: what alignment brings, what it is worth that the pairs are true, and whether the
method beats the mean of the tiles. Differences of the AUC within folds, with 95 % intervals over cases and training
seeds. {doc}`reference` shows every contrast.
```
"""


def studies() -> tuple[Study, ...]:
    """Load the studies of the experiments."""
    return tuple(load(REPOSITORY / "studies" / f"{name}.yml") for name in EXPERIMENTS)


def fragments(experiments: Sequence[Study], here: tables.Summary, study: Study) -> dict[str, str]:
    """Write the pieces of the book that tell the experiments: file name -> Markdown.

    The first page leads with them where the book is of simulated slides, too, and one is done; else with the study
    that the book was built with.

    Args:
        experiments: their studies.
        here: summary of the study that the book is of.
        study: that study.
    """
    made: dict[str, str] = {}
    done: list[tuple[Study, Findings]] = []
    for one in experiments:
        found = experiment.read(one)
        made |= experiment.fragments(one, found) | experiment_axes.fragments(one, found)
        done += [(one, found)] if found else []
    if done and study.simulated:
        made["short.md"] = "\n".join([*(experiment.answer(*one) for one in done), _SHORT])
    else:
        made["short.md"] = "\n".join([sentences.lead(here, study), sentences.verdict(here)])
    made["published_settings.md"] = design.published(study, experiments[-1])
    return made


def draw(experiments: Sequence[Study], target: Path) -> None:
    """Draw the figures of the experiments that are done, and that of the first page.

    Args:
        experiments: their studies.
        target: where the pictures go.
    """
    shown: list[dict[str, Any]] = []
    titles: dict[str, str] = {}
    for one in experiments:
        found = experiment.read(one)
        experiment.draw(one, found, target)
        experiment_axes.draw(one, found, target)
        for row in experiment.contrasts(found) if found else []:
            if row["contrast"] in _FIRST:
                shown.append({**row, "marker": f"{one.title}: {row['marker']}"})
        titles |= {name: f"minus {one.methods[pair.minus].title}" for name, pair in one.contrasts.items()}
    if shown:
        table = pd.DataFrame(shown)
        figures.save(figures.contrasts(table, titles), target / "short.png", table)
