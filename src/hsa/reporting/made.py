"""What every page says at its foot: of which study, code and machine its numbers are."""

from hsa.files import read_json
from hsa.pipeline.ledger import ledger
from hsa.pipeline.steps.summary import read_summary
from hsa.study.study import Study

VERSIONS = ("hsa", "python", "torch", "numpy", "scipy", "pandas", "scikit-learn", "onnxruntime")


def foot(study: Study) -> dict[str, str]:
    """Tell how the results of a study were made, from the records that its steps left.

    Args:
        study: with a summary.

    Returns:
        What is told -> text: study, code, run, machine and versions.

    Raises:
        InputError: the study has no summary.
    """
    made, summary, took = (
        read_json(study.paths.summary.with_suffix(".run.json")),
        read_summary(study),
        ledger(study).values(),
    )
    commits = sorted({commit for step in took for commit in step["commits"]})
    days = sorted({step[when][:10] for step in took for when in ("first", "last")})
    peaks = [step["peak_memory_mb"] for step in took if step["peak_memory_mb"]]
    seeds = f"seed{'s' * (len(study.seeds) > 1)} {', '.join(map(str, study.seeds))}"
    return {
        "study": f"{study.name}, fingerprint {summary['stamp']}, {seeds}",
        "code": ", ".join(_told(commit) for commit in commits) or "no commit: not run in a git checkout",
        "run": f"{' to '.join(days[:1] + days[1:][-1:])}; {sum(step['cpu_minutes'] for step in took):.1f} minutes of "
        f"one core; at most {max(peaks, default=0) / 1024:.1f} GB a process",
        "machine": f"{made['device']}, {made['cores']} cores",
        "versions": ", ".join(f"{name} {made[name]}" for name in VERSIONS if made.get(name)),
    }


def _told(commit: str) -> str:
    return f"commit {commit[:7]}" + (", with changes that were not committed" if commit.endswith("+") else "")
