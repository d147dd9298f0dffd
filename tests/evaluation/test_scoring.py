import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hsa.bags.batches import collate
from hsa.errors import InputError
from hsa.evaluation.scoring import Probe, fold_score, probe_score, read_probes
from hsa.models.checkpoints import save_fold
from hsa.models.model import SlideModel
from hsa.study.settings import Model

SIZES = Model(dim=8, depth=1, heads=2, segment_lengths=[8], dilated_ratios=[1])
WIDTH = 5
HERE = Path("model")


def tiles_of(count=6, seed=0):
    rng = np.random.default_rng(seed)
    coords = np.stack([np.arange(count) % 3, np.arange(count) // 3], 1) * 256
    return rng.standard_normal((count, WIDTH)).astype(np.float16), coords


def model_of(encoder="mean"):
    torch.manual_seed(0)
    return SlideModel(WIDTH, encoder, SIZES).eval()


def probe_of(width=WIDTH, fold=0):
    rng = np.random.default_rng(fold)
    values = {
        "mean": rng.standard_normal(width),
        "scale": rng.uniform(0.5, 2, width),
        "coef": rng.standard_normal(width),
    }
    return {"fold": fold, **{key: value.tolist() for key, value in values.items()}, "intercept": 0.7, "c": 1.0}


def graded(width=WIDTH, fold=0):
    coef = np.random.default_rng(9).standard_normal((3, width)).tolist()
    return probe_of(width, fold) | {"coef": coef, "intercept": [0.1, 0.2, 0.3], "first_positive": 1}


def read(folder, *probes):
    (folder / "probe.json").write_text(json.dumps({"stamp": "s", "folds": probes}))
    return read_probes(folder)


def test_the_score_is_the_logit_that_the_contract_of_probe_json_states(tmp_path):
    model, probe, batch = model_of("longnet"), probe_of(8), collate([tiles_of(), tiles_of(4, 2)])
    with torch.no_grad():
        z = model.embed(batch, "he").numpy()
    expected = [
        0.7 + sum((row[i] - probe["mean"][i]) / probe["scale"][i] * probe["coef"][i] for i in range(8)) for row in z
    ]
    found = read(tmp_path, probe)[0]
    np.testing.assert_allclose(probe_score(model, found, HERE)(batch), expected, rtol=1e-6)
    assert found.classes == 2


def test_with_several_classes_the_score_is_the_log_odds_of_those_that_are_positive(tmp_path):
    model, batch = model_of(), collate([tiles_of()])
    probe = graded() | {"mean": [0.0] * WIDTH, "scale": [1.0] * WIDTH}
    z = model.embed(batch, "he").double().detach().numpy()[0]
    chance = np.exp(np.array(probe["coef"]) @ z + [0.1, 0.2, 0.3])
    for first in (1, 2):
        found = read(tmp_path, probe | {"first_positive": first})[0]
        expected = np.log(chance[first:].sum() / chance[:first].sum())
        assert probe_score(model, found, HERE)(batch) == pytest.approx([expected])
        assert found.classes == 3


NAN, INF = float("nan"), float("inf")
EACH = [[1.0, 2.0, NAN, 1.0, 1.0], [1.0, 2.0, INF, 1.0, 1.0], [1.0, 2.0, None, 1.0, 1.0], [1.0, 2.0, "3", 1.0, 1.0]]
SHAPES = [None, 1.0, "x", True, {}, [], [1.0], [1.0] * (WIDTH - 1), [1.0] * (WIDTH + 1), [[1.0] * WIDTH] * 2, [[]]]
WRONG = [
    *[("mean", value) for value in [*EACH, *SHAPES]],
    *[("scale", value) for value in [*EACH, *SHAPES, [0.0] * WIDTH, [-1.0] + [1.0] * (WIDTH - 1)]],
    *[("coef", value) for value in [*EACH, *SHAPES]],
    *[("intercept", value) for value in [None, NAN, INF, -INF, "0.7", True, [], [0.7], [0.7, 0.7], {}, 10**400]],
    *[("fold", value) for value in [None, -1, 0.5, "0", True, NAN]],
    *[("first_positive", value) for value in [1, "1", 0, NAN]],
]


@pytest.mark.parametrize(("key", "value"), WRONG)
def test_a_probe_that_is_not_finite_or_of_another_shape_is_refused(tmp_path, key, value):
    with pytest.raises(InputError, match=r"probe\.json: folds\.1.*Delete this file and run `hsa train`"):
        read(tmp_path, probe_of(), probe_of(fold=1) | {key: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("intercept", 0.1),
        ("intercept", [0.1, 0.2]),
        ("intercept", [0.1, 0.2, None]),
        ("coef", [1.0] * WIDTH),
        ("coef", [[1.0] * WIDTH] * 2),
        ("coef", [[1.0] * WIDTH] * 2 + [[1.0] * (WIDTH - 1)]),
        ("coef", [[1.0] * WIDTH] * 2 + [[NAN] * WIDTH]),
        ("first_positive", None),
        ("first_positive", 3),
        ("first_positive", 0),
    ],
)
def test_a_probe_of_several_classes_is_checked_likewise(tmp_path, key, value):
    with pytest.raises(InputError, match=r"probe\.json: folds\.0"):
        read(tmp_path, graded() | {key: value})


@pytest.mark.parametrize("key", ["fold", "mean", "scale", "coef", "intercept"])
def test_a_probe_that_lacks_a_key_is_refused(tmp_path, key):
    probe = probe_of()
    del probe[key]
    with pytest.raises(InputError, match=rf"probe\.json: folds\.0\.{key}: missing"):
        read(tmp_path, probe)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        '{"folds": null}',
        '{"folds": []}',
        '{"folds": {}}',
        '{"folds": [3]}',
        "[" * 10**5,
        "\xff",
    ],
)
def test_a_file_that_holds_something_else_is_refused(tmp_path, text):
    (tmp_path / "probe.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"probe\.json: .*`hsa train`"):
        read_probes(tmp_path)


def test_probes_that_do_not_go_together_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"no such file\. Train the method first"):
        read_probes(tmp_path)
    with pytest.raises(InputError, match="expected one probe a fold"):
        read(tmp_path, probe_of(), probe_of())
    for other in (probe_of(WIDTH + 1, 1), graded(fold=1)):
        with pytest.raises(InputError, match="of several widths or classes"):
            read(tmp_path, probe_of(), other)
    assert list(read(tmp_path, probe_of(fold=1), probe_of())) == [0, 1]


def test_a_probe_of_another_model_shows_before_a_slide_is_read():
    with pytest.raises(InputError, match=r"5 coefficients in probe\.json, embeddings of 8"):
        probe_score(model_of("longnet"), Probe(**probe_of()), HERE)


def test_bags_of_another_width_are_refused_and_not_broadcast():
    score = probe_score(SlideModel(1, "mean", SIZES).eval(), Probe(**probe_of(1)), HERE)
    with pytest.raises(InputError, match="takes 1 features a tile, the bag holds 5"):
        score(collate([tiles_of()]))


def test_a_score_that_runs_over_is_refused_whatever_is_finite_before_it():
    model = model_of()
    huge = Probe(**probe_of() | {"coef": [1e308] * WIDTH, "mean": [-1e10] * WIDTH})
    with pytest.raises(InputError, match=r"model: fold 0: the score is not a finite number"):
        probe_score(model, huge, HERE)
    steep = Probe(**probe_of() | {"coef": [1e308] * WIDTH, "mean": [0.0] * WIDTH, "scale": [1e-3] * WIDTH})
    score = probe_score(model, steep, HERE)  # of the average tile it is the intercept
    with pytest.raises(InputError, match=r"model: fold 0: the score is not a finite number"):
        score(collate([tiles_of()]))
    several = Probe(**graded() | {"coef": [[1e308] * WIDTH] * 3, "mean": [0.0] * WIDTH, "scale": [1e-3] * WIDTH})
    with pytest.raises(InputError, match="the score is not a finite number"):
        probe_score(model, several, HERE)(collate([tiles_of()]))
    weights = model_of("longnet")
    with torch.no_grad():
        for parameter in weights.parameters():
            parameter.fill_(1e38)
    with pytest.raises(InputError, match="the score is not a finite number"):
        probe_score(weights, Probe(**probe_of(8)), HERE)


def test_model_and_probe_of_a_fold_are_read_together(tmp_path):
    settings = {"input": {"in_dim": WIDTH, "encoder": "mean"}, "model": SIZES.model_dump()}
    save_fold(tmp_path, 0, model_of(), "s", {"settings": settings, "history": []})
    read(tmp_path, probe_of())
    model, score = fold_score(tmp_path, 0)
    assert score(collate([tiles_of()])) == pytest.approx(
        probe_score(model, Probe(**probe_of()), HERE)(collate([tiles_of()]))
    )
    with pytest.raises(InputError, match="no probe of fold 1"):
        fold_score(tmp_path, 1)
