import re

import pytest

from hsa.reporting import protocol
from hsa.study.study import load


@pytest.fixture(scope="module")
def study():
    return load("diffuse")


def test_every_plan_of_a_study_is_written(study):
    made = protocol.fragments(study)
    assert list(made) == [f"plan_diffuse_{name}.md" for name in ("methods", "contrasts", "budget", "places", "reach")]
    assert all(made.values())


def test_a_control_is_shown_with_whose_pairs_and_settings_it_has(study):
    told = protocol.methods(study)
    row = next(line for line in told.splitlines() if line.startswith("| Full, shuffled pairs |"))
    assert "another patient's" in row
    assert "those of *HistoStainAlign (full)*" in row
    assert told.count("its own |") == sum(way.pairs == "own" for way in study.methods.values())


def test_every_question_names_its_two_methods(study):
    told = protocol.contrasts(study)
    for pair in study.contrasts.values():
        first, second = (protocol.plain(study.methods[name].title) for name in (pair.of, pair.minus))
        assert f"| {pair.asks} | *{first}* minus *{second}* |" in told


def test_every_setting_that_is_tried_is_shown_whole(study):
    told = protocol.budget(study)
    assert re.findall(r"^\| \d \|", told, re.M) == [f"| {i} |" for i in range(1, len(study.tuning.candidates) + 1)]
    assert "| 3 | 0.002 | 0.01 | 0.05 | 48 |" in told
    assert "Training seed of the trials: 100." in told


def test_the_middle_stands_once_and_every_other_point_has_its_seeds(study):
    told = protocol.places(study)
    assert told.count("| the middle |") == 1
    runs = len(study.seeds) * len(study.markers) * len(study.methods)
    assert f"| the middle | {len(study.seeds)} | {len(study.methods)} | {runs} |" in told
    assert "| permuted labels: 1 | 20 | 4 | 240 |" in told


def test_more_seeds_reach_a_smaller_difference(study):
    found = [
        [float(value) for value in re.findall(r"(?:of|one of) (0\.\d{3})", protocol.reach(one))]
        for one in (study, study.at(10))
    ]
    assert found[0][0] < found[0][1]
    assert all(more < one for more, one in zip(*found, strict=True))
