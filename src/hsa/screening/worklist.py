"""A ranked worklist: which slides of a manifest to stain first. Research use only; no IHC slide is read."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from hsa import files
from hsa.cohorts import cells
from hsa.cohorts.labels import is_empty
from hsa.cohorts.manifest import HE
from hsa.cohorts.paths import Places
from hsa.errors import InputError, reason
from hsa.evaluation.predictions import read_predictions
from hsa.screening import caveats, triage, verdict
from hsa.screening.predict import read_slide
from hsa.screening.predictor import Predictor
from hsa.slides.resolution import givens
from hsa.workers import bar

SENSITIVITY = 0.95  # on validation, of the threshold that a worklist is cut at


def read_worklist(path: str | Path) -> pd.DataFrame:
    """Read the slides to rank from a CSV: slide_id and path, optionally case_id, mpp, mpp_override and stain.

    Other columns are ignored. Paths are relative to the CSV. If there is a column `stain`, only its HE rows are taken.

    Returns:
        slide_id, case_id (empty if not given), path (absolute), mpp (NaN if not given), mpp_override (bool); its
        `attrs` hold `root`, the folder of the CSV.

    Raises:
        InputError: lists every problem with its row (the header is row 1), column and remedy.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such manifest. Give a CSV with the columns slide_id and path.")
    frame = files.read_rows(path)
    missing = [column for column in ("slide_id", "path") if column not in frame]
    if missing:
        raise InputError("\n".join(f"{path}: column {column!r} is missing. Add it." for column in missing))
    places = Places(path.resolve().parent)
    frame = cells.tidy(frame, places)
    problems = _odd_stains(frame)
    if "stain" in frame:
        frame = frame[frame["stain"] == HE]
    problems += _row_problems(frame, places)
    if problems:
        shown = "\n".join(f"  {problem}" for problem in problems)
        raise InputError(f"{path}: {len(problems)} problem{'s' * (len(problems) > 1)}:\n{shown}")
    if frame.empty:
        raise InputError(f"{path}: no H&E slide. Give one row a slide, with stain {HE!r} if there is such a column.")
    mpp, marked = cells.resolutions(frame)
    paths = [places.root / name for name in frame["path"]]
    case = ["" if is_empty(text) else text for text in frame["case_id"]] if "case_id" in frame else ""
    slides = pd.DataFrame(
        {"slide_id": frame["slide_id"], "case_id": case, "path": paths, "mpp": mpp, "mpp_override": marked}
    )
    slides.attrs["root"] = places.root
    return slides


def prescreen(predictor: Predictor, slides: pd.DataFrame, out: Path, progress: bool = True) -> tuple[str, int]:
    """Rank slides for IHC, highest probability first; write the worklist, and what it says in words beside it.

    A slide is marked "stain" if its log odds reach the mean of the folds' thresholds for 95 % sensitivity, each
    set on the fold's validation cases. Cross-validation judged those folds one by one; their average on
    new slides has not been judged.

    Args:
        predictor: the method.
        slides: from `read_worklist`.
        out: the CSV to write: rank, case_id, slide_id, probability, low, high, call ("stain", "wait" or
            "unread"), trained_on and in_training (see `hsa.screening.caveats`), note. The summary gets the same name
            with .txt, the bags go to the folder <name>_bags.
        progress: show a bar.

    Returns:
        The summary, and the number of slides that could not be read: they are at the end of the list.

    Raises:
        InputError: the method has no predictions.csv, or a damaged one.
    """
    seen = _cross_validation(predictor)
    bags, rows = out.with_name(f"{out.stem}_bags"), []
    each = zip(slides.itertuples(), givens(slides), strict=True)
    for slide, mpp in bar(each, total=len(slides), desc="slides", progress=progress):
        row = {"case_id": slide.case_id, "slide_id": slide.slide_id, "trained_on": caveats.trained_on(predictor)}
        try:
            reading = read_slide(predictor, slide.path, slide.slide_id, bags, mpp)
            row["in_training"] = caveats.exposure(predictor, reading.sha256).column
            call = verdict.stain_or_wait(reading.logits, seen["threshold"])
            rows.append(row | verdict.numbers(reading.logits) | {"call": call, "note": reading.warning})
        except Exception as error:  # whatever is raised for one slide is its failure alone
            rows.append(row | {"call": "unread", "note": _note(error, slides.attrs.get("root"), out)})
    numbers, told = ["probability", "low", "high"], ["trained_on", "in_training"]
    table = pd.DataFrame(rows).reindex(columns=["case_id", "slide_id", *numbers, "call", *told, "note"])
    table = table.sort_values(["probability", "slide_id"], ascending=[False, True], ignore_index=True)
    ranked = table["call"] != "unread"
    table.insert(0, "rank", pd.Series(range(1, len(table) + 1), dtype="Int64").where(ranked))
    files.write_frame(out, table)
    summary = _summary(predictor, table, seen)
    files.write_text(out.with_suffix(".txt"), summary)
    return summary, int((~ranked).sum())


def _note(error: Exception, root: Path | None, out: Path) -> str:
    """Why a slide is unread, in a line that names no folder of this machine: paths as the manifest has them."""
    text = " ".join(reason(error).split())
    for folder in filter(None, (root, out.resolve().parent, out.parent)):
        text = text.replace(f"{folder}/", "")
    return text


def _cross_validation(predictor: Predictor) -> dict[str, Any]:
    """Threshold of the averaged models, and what the folds' own thresholds did on their test cases."""
    predictions = read_predictions(predictor.folder)
    chosen = triage.thresholds(predictions, [SENSITIVITY])
    found = triage.triage(predictions, [SENSITIVITY]).set_index("measure")
    finite = chosen["threshold"].clip(1e-6, 1 - 1e-6).where(np.isfinite(chosen["threshold"]), 0)
    return {
        "threshold": float(logit(finite).mean()),
        "fewest": int(chosen["positives"].min()),
        "expected": float(chosen["expected"].mean()),
        "positive": int((predictions["label"] * (predictions["split"] == "test")).sum()),
        "found": found,
    }


def _summary(predictor: Predictor, table: pd.DataFrame, seen: dict[str, Any]) -> str:
    """Tell the worklist in plain words."""
    positive = predictor.classes[1]
    ranked = table[table["call"] != "unread"]
    unread = len(table) - len(ranked)
    lines = [f"Worklist: {predictor}.", *caveats.of_origin(predictor)]
    lines.append(f"{len(table)} slides, {len(ranked)} ranked, {unread} could not be read.")
    if len(ranked):
        lines.append(
            f"{(ranked['call'] == 'stain').sum()} of {len(ranked)} score at or above {expit(seen['threshold']):.2f}, "
            f"the threshold set on validation cases to find {SENSITIVITY:.0%} of {positive} cases."
        )
        lines += _saving(predictor, ranked)
    found = seen["found"]
    share = {
        name: "{value:.0%} (95 % interval {low:.0%} to {high:.0%})".format(**found.loc[name])
        for name in ("sensitivity", "saved")
    }
    simulated = "simulated " * (caveats.trained_on(predictor) == caveats.SIMULATED)
    lines += [
        f"In cross-validation on {found['n'].iloc[0]} {simulated}cases of the study such thresholds found "
        f"{share['sensitivity']} of the {positive} cases, missed {found.at['missed', 'value']:.0f} of "
        f"{seen['positive']}, and saved {share['saved']} of the stains.",
        f"A fold's threshold hangs on as few as {seen['fewest']} {positive} validation cases; with so few, "
        f"{seen['expected']:.0%} of new {positive} cases is what can be expected at best.",
        "Other laboratories, scanners and patients: measure again before relying on any of this.",
    ]
    if unread:
        lines.append("Could not be read, at the end of the list:")
        lines += [f"  {row.slide_id}: {row.note}" for row in table[table["call"] == "unread"].itertuples()]
    return "\n".join([*lines, *caveats.of_training(predictor), *caveats.of_numbers(predictor)]) + "\n"


def _saving(predictor: Predictor, ranked: pd.DataFrame) -> list[str]:
    """Say what staining the first slides would save: of new slides only, and on which conditions."""
    known = ranked["in_training"].map(caveats.is_known)
    new, lines = ranked[~known], []
    if known.any():
        lines.append(
            f"{known.sum()} of {len(ranked)} were in training (column in_training): the models know them, and neither "
            "their calls nor their ranks are those of new slides."
        )
    if new.empty:
        return [*lines, "So this list does not tell what staining only the first would save."]
    whose = f"Of the other {len(new)}, staining" if known.any() else "Staining"
    these = "those at or above it" if known.any() else "these"
    wait = int((new["call"] == "wait").sum())
    conditions = {
        "no slide of the training is among them (not recorded)": (new["in_training"] == caveats.UNKNOWN).any(),
        "real slides were as the simulated ones": caveats.trained_on(predictor) == caveats.SIMULATED,
        "the models are not of simulated tissue (not recorded)": caveats.trained_on(predictor) == caveats.UNKNOWN,
    }
    only = " and if ".join(text for text, holds in conditions.items() if holds)
    saved = f"{whose} only {these} would save {wait} of {len(new)} stains ({wait / len(new):.0%})"
    return [*lines, f"{saved}, if {only}." if only else f"{saved}."]


def _row_problems(frame: pd.DataFrame, places: Places) -> list[str]:
    rows, ids, paths = list(frame.index), list(frame["slide_id"]), list(frame["path"])
    problems = cells.id_problems("slide_id", ids)
    if "case_id" in frame:
        problems += cells.id_problems("case_id", list(frame["case_id"]), empty=True)
    for at, before in cells.repeated([text.lower() for text in ids], rows):
        problems.append((at, f"slide_id {ids[at]!r} stands in row {before} too. Make ids unique."))
    problems += cells.wrong(paths, lambda text: "" if text else "path is empty. Give the slide's file.")
    return cells.by_row([*problems, *cells.resolution_problems(frame)], rows)


def _odd_stains(frame: pd.DataFrame) -> list[str]:
    """A slide whose H&E is spelt another way would be left out without a word."""
    if "stain" not in frame:
        return []
    odd = frame["stain"].str.fullmatch(r"|h ?(&|and|\+)? ?e", case=False) & (frame["stain"] != HE)
    odd |= frame["stain"].map(is_empty)
    return [f"row {number}: stain {stain!r}: write {HE!r} for H&E." for number, stain in frame["stain"][odd].items()]
