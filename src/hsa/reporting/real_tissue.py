"""Retrieval of a tile's IHC partner on real tissue: the page that reads what `benchmarks/real_pairs.py` kept."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from hsa.errors import InputError
from hsa.evaluation.alignment import mean_interval
from hsa.evaluation.partners import MEASURES, by_image, chance, gain, verdict
from hsa.reporting import figures
from hsa.reporting.tables import interval, table
from hsa.study.records import Record, read_record

NAMES = ("real_limits.md", "real_answer.md", "real_beside.md", "real_made.md")
ARMS = {
    "raw": "frozen encoder, features as they are",
    "frozen": "frozen encoder, standardised",
    "shuffled": "trained with dealt pairs",
    "aligned": "trained with own pairs",
}
GAINS = {
    ("aligned", "frozen"): "own pairs minus frozen",
    ("aligned", "shuffled"): "own pairs minus dealt pairs",
    ("shuffled", "frozen"): "dealt pairs minus frozen",
}
_TITLES = {"top1": "top-1", "mrr": "mean reciprocal rank"}
_COLUMNS = {"image", "group", "tiles", "arm", "seed", "temperature", "epochs", "direction", *MEASURES}
_REMEDY = "Run `python benchmarks/real_pairs.py FOLDER` again."
_ABSENT = (
    "*This copy of the book holds no results on real tissue. `python benchmarks/real_pairs.py FOLDER` makes them, and "
    "keeps them in book/reference/real.*\n"
)
_FIGURE = """```{{figure}} _generated/real.png
:name: fig-real
:alt: Above, a row for each encoder with its top-1 and an interval; below, the differences of three of them in pairs.

Top-1 of {tiles} tiles, mean of both directions and of the seeds, with 95 % confidence intervals over {images} pictures.
Dashed: above, chance; below, no difference.
```
"""


class Run(Record):
    """The part of run.json that the page tells."""

    commit: str | None
    clean: bool | None
    date: str
    minutes: float
    cpu_minutes: float
    tile_px: int
    training_tiles: int
    seeds: int
    seeds_beside: int
    settings: dict[str, float]
    marker: list[str]
    source: list[str]


@dataclass(frozen=True)
class Kept:
    """What was kept: the run, the rows of the settings that decide, and all rows."""

    run: Run
    main: pd.DataFrame
    rows: pd.DataFrame

    @property
    def luck(self) -> dict[str, float]:
        """Chance of the two measures, mean of the pictures."""
        tiles = self.main.groupby("image")["tiles"].first()
        return {measure: sum(chance(int(n))[measure] for n in tiles) / len(tiles) for measure in MEASURES}


def read(folder: Path) -> Kept | None:
    """Read what was kept in a folder; None if it holds nothing.

    Raises:
        InputError: a file is missing or holds something else.
    """
    path = folder / "retrieval.csv"
    if not path.is_file():
        return None
    run = read_record(folder / "run.json", Run, _REMEDY)
    rows = pd.read_csv(path, dtype={"group": "str", "seed": "Int64", "epochs": "Int64"})
    if lost := sorted(_COLUMNS - set(rows)):
        raise InputError(f"{path}: no column {lost[0]!r}. {_REMEDY}")
    trained = rows["arm"].isin(["aligned", "shuffled"])
    decides = (rows["temperature"] == run.settings["temperature"]) & (rows["epochs"] == run.settings["epochs"])
    main = rows[~trained | decides]
    if lost := sorted(set(ARMS) - set(main["arm"])):
        raise InputError(f"{path}: no row of arm {lost[0]!r} with the settings of run.json. {_REMEDY}")
    return Kept(run, main, rows)


def fragments(folder: Path) -> dict[str, str]:
    """Write the pieces of the page: file name -> Markdown.

    Args:
        folder: book/reference/real.
    """
    kept = read(folder)
    if kept is None:
        return dict.fromkeys(NAMES, "") | {"real_answer.md": _ABSENT}
    return dict(zip(NAMES, (limits(kept), answer(kept), beside(kept), made(kept)), strict=True))


def limits(kept: Kept) -> str:
    """Say of how little this tells."""
    pictures = kept.main.groupby("group")["image"].nunique()
    tiles = kept.main["tiles"]
    trained = [int(pictures.sum() - n) for n in pictures]
    stains, sources = ", ".join(kept.run.marker), ", ".join(kept.run.source)
    return (
        f"{pictures.sum()} pictures ({sources}), beside H&E in {stains}, of slides of {len(pictures)} scores; "
        f"{_span(tiles.min(), tiles.max())} tiles of {kept.run.tile_px} px a picture. "
        f"A fold trains on {_span(min(trained), max(trained))} pictures, {kept.run.training_tiles} tiles in each.\n"
    )


def answer(kept: Kept) -> str:
    """Say what was found, with the figure and the table."""
    wide = {measure: by_image(kept.main, measure) for measure in MEASURES}
    rows = [[title, *(interval(mean_interval(wide[m][arm])) for m in MEASURES)] for arm, title in ARMS.items()]
    rows.insert(0, ["chance", *(f"{kept.luck[m]:.3f}" for m in MEASURES)])
    for (of, minus), title in GAINS.items():
        rows.append([title, *(interval(gain(wide[m], of, minus), sign=True) for m in MEASURES)])
    figure = _FIGURE.format(tiles=int(kept.main["tiles"].max()), images=len(wide["top1"]))
    return f"{sentence(kept)}\n\n{figure}\n{table(['', *_TITLES.values()], rows)}"


def sentence(kept: Kept) -> str:
    """Answer the question by the rule that was written down before: raised, lowered or open."""
    wide = by_image(kept.main, "top1")
    over, pairing = gain(wide, "aligned", "frozen"), gain(wide, "aligned", "shuffled")
    levels = {arm: f"{wide[arm].mean():.3f}" for arm in ARMS}
    found = {
        "higher": "**Contrastive training raises the retrieval of the own IHC partner on slides left out**",
        "lower": "**Contrastive training lowers the retrieval of the own IHC partner on slides left out**",
        "open": "**Whether contrastive training raises the retrieval of the own IHC partner is open**",
    }[over["verdict"]]
    told = (
        f"{found}: the partner comes first for {levels['aligned']} of the tiles after training, for {levels['frozen']} "
        f"with the frozen encoder ({kept.luck['top1']:.3f} by chance), a difference of {interval(over, sign=True)}."
    )
    why = {
        "higher": "The pairing makes a difference: training alike on pairs dealt anew reaches less",
        "lower": "Own pairs do worse than pairs dealt anew",
        "open": "Whether the pairing makes a difference is open: training alike on pairs dealt anew is not told apart",
    }[pairing["verdict"]]
    told += f" {why} ({levels['shuffled']}; difference {interval(pairing, sign=True)})."
    half = (over["high"] - over["low"]) / 2
    reach = f" With so few pictures a difference of less than about {half:.3f} is not told from none."
    return f"{told}{_cost(wide)}{_frozen(kept, wide)}{_by_group(over)}{_seeds(kept)}{reach}"


def beside(kept: Kept) -> str:
    """Lay out the settings that decide nothing: own pairs, dealt pairs, and the gain over the frozen encoder."""
    few = kept.rows[kept.rows["seed"].isna() | (kept.rows["seed"] < kept.run.seeds_beside)]
    still = few[few["seed"].isna()]
    rows = []
    for (temperature, epochs), trained in few.groupby(["temperature", "epochs"]):
        wide = by_image(pd.concat([still, trained]), "top1")
        told = [f"{wide[arm].mean():.3f}" for arm in ("aligned", "shuffled")]
        decides = (temperature, epochs) == (kept.run.settings["temperature"], kept.run.settings["epochs"])
        mark = "\N{DAGGER}" * decides
        gained = interval(gain(wide, "aligned", "frozen"), sign=True)
        rows.append([f"{temperature:g}{mark}", str(epochs), *told, gained])
    if not rows:
        return ""
    note = f"\n\N{DAGGER} The setting that decides, here with {kept.run.seeds_beside} of its {kept.run.seeds} seeds.\n"
    head = ["temperature", "epochs", "own pairs", "dealt pairs", "own pairs minus frozen"]
    return table(head, rows) + note


def made(kept: Kept) -> str:
    """Say what made it."""
    run = kept.run
    clean = "" if run.clean else ", with changes that were not committed"
    return (
        f"Made on {run.date[:10]} at commit `{(run.commit or 'unknown')[:7]}`{clean}, in {run.minutes:.0f} minutes "
        f"({run.cpu_minutes:.0f} of CPU time), with {run.seeds} seeds.\n"
    )


def draw(folder: Path, target: Path) -> None:
    """Draw real.png into a folder, if there are results."""
    kept = read(folder)
    if kept is None:
        return
    wide = by_image(kept.main, "top1")
    levels = pd.DataFrame([{"method": arm, **mean_interval(wide[arm])} for arm in ARMS])
    gains = pd.DataFrame([{"method": f"{of} minus {minus}", **_plain(gain(wide, of, minus))} for of, minus in GAINS])
    figures.use_style()
    fig, axes = figures.panels(2, 1, height=3.9, height_ratios=[len(levels), len(gains)])
    figures.forest(axes[0], levels, titles=ARMS, reference=kept.luck["top1"], label="top-1")
    named = dict(zip(gains["method"], GAINS.values(), strict=True))
    figures.forest(axes[1], gains, titles=named, reference=0, label="difference of top-1")
    figures.save(fig, target / "real.png", pd.concat([levels, gains]))


def _cost(wide: pd.DataFrame) -> str:
    number = gain(wide, "shuffled", "frozen")
    if number["verdict"] != "lower":
        return ""
    return (
        " Training on pairs dealt anew lowers the retrieval of the frozen encoder "
        f"({interval(number, sign=True)}): the maps can do harm where there is nothing to learn."
    )


def _frozen(kept: Kept, wide: pd.DataFrame) -> str:
    number = mean_interval(wide["frozen"] - kept.luck["top1"])
    how = {"higher": "above", "lower": "below", "open": "not told apart from"}[verdict(number)]
    return f" The frozen encoder is {how} chance ({interval(number, sign=True)})."


def _by_group(over: dict[str, Any]) -> str:
    if over["groups"] is None:
        return ""
    now = verdict(over["groups"])
    same = "the answer is the same" if now == over["verdict"] else f"the answer is then {now}"
    return (
        f" Pictures of one score may be of one slide. With the {over['groups']['n']} scores as units the difference is "
        f"{interval(over['groups'], sign=True)}: {same}."
    )


def _seeds(kept: Kept) -> str:
    own = kept.main[kept.main["arm"] == "aligned"].groupby("seed")["top1"].mean()
    return f" From seed to seed its mean scatters with an SD of {own.std():.3f}." if len(own) > 1 else ""


def _plain(number: dict[str, Any]) -> dict[str, Any]:
    return {key: number[key] for key in ("value", "low", "high", "n")}


def _span(low: int, high: int) -> str:
    return f"{low}" if low == high else f"{low} to {high}"
