import re

import numpy as np
import pandas as pd
import pytest

from hsa.errors import InputError
from hsa.files import write_json
from hsa.reporting import real_tissue

RUN = {
    "commit": "abcdef0123", "clean": True, "date": "2026-11-27T08:00:00+00:00", "minutes": 7.4, "cpu_minutes": 3.2,
    "tile_px": 256, "training_tiles": 49, "seeds": 3, "seeds_beside": 2, "marker": ["HER2"], "source": ["BCI"],
    "settings": {"temperature": 0.1, "epochs": 20, "lr": 3e-4},
}  # fmt: skip
LEVELS = {"raw": 0.2, "frozen": 0.3, "shuffled": 0.25, "aligned": 0.5}


@pytest.fixture
def keep(tmp_path):
    """Keep invented numbers: six pictures of three scores; the setting beside has another level; gives the folder."""

    def write(levels=None, scatter=0.02, lost=(), **run):
        levels, rng, rows = LEVELS | (levels or {}), np.random.default_rng(0), []
        for picture in range(6):
            told = {"image": f"p{picture}", "group": str(picture // 2), "tiles": 16}
            for arm, level in levels.items():
                trained = arm in ("aligned", "shuffled")
                for seed, epochs in [(0, 20), (1, 20), (2, 20), (0, 60), (1, 60)] if trained else [(None, None)]:
                    how = {"arm": arm, "seed": seed, "temperature": 0.1 if trained else None, "epochs": epochs}
                    value = level + scatter * rng.standard_normal() + (0.2 if epochs == 60 else 0)
                    both = [{"direction": way, "top1": value, "mrr": value + 0.1} for way in ("there", "back")]
                    rows += [told | how | one for one in both]
        frame = pd.DataFrame(rows).astype({"seed": "Int64", "epochs": "Int64"}).drop(columns=list(lost))
        frame.to_csv(tmp_path / "retrieval.csv", index=False)
        write_json(tmp_path / "run.json", RUN | run)
        return tmp_path

    return write


def told(folder):
    return real_tissue.fragments(folder)["real_answer.md"]


def test_a_gain_by_pairing_is_said_with_its_numbers(keep):
    said = told(keep(scatter=0.0))
    assert said.startswith("**Contrastive training raises the retrieval")
    assert "first for 0.500 of the tiles after training, for 0.300 with the frozen encoder (0.062 by chance)" in said
    assert "difference of +0.200 [+0.200, +0.200]" in said
    assert "The pairing makes a difference: training alike on pairs dealt anew reaches less (0.250;" in said
    assert "The frozen encoder is above chance" in said
    assert "With the 3 scores as units the difference is +0.200 [+0.200, +0.200]: the answer is the same." in said


@pytest.mark.parametrize(
    ("levels", "scatter", "begins", "pairing"),
    [
        ({"aligned": 0.1, "shuffled": 0.05}, 0.01, "**Contrastive training lowers", "The pairing makes a difference"),
        ({"aligned": 0.3, "shuffled": 0.3}, 0.05, "**Whether contrastive training raises", "is open: training alike"),
        ({"shuffled": 0.6}, 0.01, "**Contrastive training raises", "Own pairs do worse than pairs dealt anew"),
    ],
)
def test_harm_and_an_open_answer_are_said_as_such(keep, levels, scatter, begins, pairing):
    said = told(keep(levels, scatter))
    assert said.startswith(begins) and pairing in said


def test_what_dealt_pairs_cost_is_said_where_they_cost(keep):
    cost = "Training on pairs dealt anew lowers the retrieval of the frozen encoder (\N{MINUS SIGN}0.050 ["
    assert cost in told(keep(scatter=0.0))
    assert "Training on pairs dealt anew lowers" not in told(keep({"shuffled": 0.4}))


def test_the_smallest_difference_that_is_told_is_half_the_interval(keep):
    said = told(keep({"aligned": 0.3}, 0.05))
    low, high = re.search(r"a difference of \S+ \[(\S+), (\S+)\]", said).groups()
    half = (float(high) - float(low.replace("\N{MINUS SIGN}", "-"))) / 2
    assert float(re.search(r"less than about (\S+) is", said)[1]) == pytest.approx(half, abs=0.0011)


def test_a_frozen_encoder_at_chance_is_not_praised(keep):
    assert "The frozen encoder is not told apart from chance" in told(keep({"frozen": 1 / 16}, 0.03))


def test_settings_beside_enter_no_answer_and_are_shown_whole(keep):
    folder = keep(scatter=0.0)
    assert "0.700" not in told(folder)
    shown = real_tissue.fragments(folder)["real_beside.md"]
    assert "| 0.1\N{DAGGER} | 20 | 0.500 | 0.250 | +0.200 [+0.200, +0.200] |" in shown
    assert "| 0.1 | 60 | 0.700 | 0.450 | +0.400 [+0.400, +0.400] |" in shown
    assert "here with 2 of its 3 seeds" in shown


def test_limits_and_making_are_told_from_what_was_kept(keep):
    made = real_tissue.fragments(keep())
    assert "6 pictures (BCI), beside H&E in HER2, of slides of 3 scores; 16 tiles of 256 px" in made["real_limits.md"]
    assert "trains on 4 pictures, 49 tiles in each" in made["real_limits.md"]
    assert "Made on 2026-11-27 at commit `abcdef0`, in 7 minutes (3 of CPU time), with 3 seeds." in made["real_made.md"]
    unclean = real_tissue.fragments(keep(clean=False))["real_made.md"]
    assert "with changes that were not committed" in unclean


def test_the_figure_shows_levels_and_differences(keep, tmp_path):
    real_tissue.draw(keep(), tmp_path / "drawn")
    assert (tmp_path / "drawn" / "real.png").is_file()
    shown = pd.read_csv(tmp_path / "drawn" / "real.csv").set_index("method")
    assert shown.loc["aligned", "value"] - shown.loc["frozen", "value"] == pytest.approx(
        shown.loc["aligned minus frozen", "value"]
    )


def test_a_copy_without_results_says_how_to_make_them(tmp_path):
    made = real_tissue.fragments(tmp_path)
    assert "benchmarks/real_pairs.py FOLDER` makes them" in made["real_answer.md"] and set(made) == set(
        real_tissue.NAMES
    )
    real_tissue.draw(tmp_path, tmp_path)
    assert not list(tmp_path.iterdir())


def test_kept_files_that_lack_something_are_refused_by_name(keep):
    with pytest.raises(InputError, match=r"retrieval\.csv: no column 'mrr'"):
        real_tissue.fragments(keep(lost=["mrr"]))
    with pytest.raises(InputError, match=r"no row of arm 'aligned' with the settings"):
        real_tissue.fragments(keep(settings={"temperature": 0.5, "epochs": 20}))
    folder = keep()
    (folder / "run.json").unlink()
    with pytest.raises(InputError, match=r"run\.json: no such file"):
        real_tissue.fragments(folder)
