import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from hsa.errors import InputError
from hsa.models.checkpoints import load_fold, save_fold
from hsa.models.model import SlideModel
from hsa.study.settings import Model

SIZES = Model(dim=8, depth=1, heads=2, segment_lengths=[8], dilated_ratios=[1])
WIDTH = 5
REMEDY = r"made\.json and probe\.json in that folder and run `hsa train`"


@pytest.fixture(params=["longnet", "abmil", "mean"])
def folder(request, tmp_path):
    """A folder with two folds; the second is whole."""
    classes = 0 if request.param == "mean" else 2
    given = {"in_dim": WIDTH, "encoder": request.param, "classes": classes, "tile_size": 256}
    for fold in (0, 1):
        torch.manual_seed(fold)
        record = {"settings": {"input": given, "model": SIZES.model_dump()}, "history": []}
        save_fold(tmp_path, fold, SlideModel(model=SIZES, **given), "s", record)
    return tmp_path


def changed(folder, change):
    """Change the weights of fold 0 in place."""
    path = folder / "fold0.safetensors"
    with safe_open(path, framework="pt") as file:
        notes = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(tensors)
    save_file(tensors, path, metadata=notes)


def recorded(folder, change):
    path = folder / "fold0.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_one_weight_that_is_not_finite_is_refused(folder, value):
    with safe_open(folder / "fold0.safetensors", framework="pt") as file:
        names = list(file.keys())
    whole = (folder / "fold0.safetensors").read_bytes()
    for name in names:
        (folder / "fold0.safetensors").write_bytes(whole)
        changed(folder, lambda tensors, name=name: tensors[name].view(-1)[:1].fill_(value))
        with pytest.raises(InputError, match=rf"fold0\.safetensors: {name} holds NaN or infinity.*{REMEDY}"):
            load_fold(folder, 0)
    load_fold(folder, 1)


def test_a_weight_that_is_finite_in_the_file_only_is_refused(folder):
    changed(folder, lambda tensors: tensors.update(he_mean=tensors["he_mean"].double() + 1e300))
    with pytest.raises(InputError, match="he_mean holds NaN or infinity"):
        load_fold(folder, 0)


@pytest.mark.parametrize("stain", ["he", "ihc"])
@pytest.mark.parametrize("value", [0.0, -1.0])
def test_features_are_never_divided_by_nothing(folder, stain, value):
    changed(folder, lambda tensors: tensors[f"{stain}_deviation"][2:3].fill_(value))
    with pytest.raises(InputError, match=f"{stain}_deviation holds a number that is not above 0"):
        load_fold(folder, 0)


def test_tensors_of_another_shape_are_not_broadcast(folder):
    for change in (
        lambda tensors: tensors.update(he_mean=tensors["he_mean"][:1].clone()),
        lambda tensors: tensors.pop("he_mean"),
        lambda tensors: tensors.update(more=torch.zeros(1)),
    ):
        whole = (folder / "fold0.safetensors").read_bytes()
        changed(folder, change)
        with pytest.raises(InputError, match=r"fold0\.json is not the record of its weights"):
            load_fold(folder, 0)
        (folder / "fold0.safetensors").write_bytes(whole)


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "3", '"fold"', "{}", '{"stamp": "s"}', '{"stamp": "s", "fold": 0, "settings": []}', "[" * 10**5],
)
def test_a_record_that_holds_something_else_is_refused(folder, text):
    (folder / "fold0.json").write_text(text)
    with pytest.raises(InputError, match=rf"fold0\.json: .*{REMEDY}"):
        load_fold(folder, 0)


@pytest.mark.parametrize(
    ("place", "key", "value"),
    [
        ("input", "in_dim", None),
        ("input", "in_dim", "5"),
        ("input", "in_dim", 0),
        ("input", "in_dim", float("nan")),
        ("input", "encoder", None),
        ("input", "encoder", "longnt"),
        ("input", "classes", -1),
        ("input", "tile_size", 0),
        ("model", "dim", 8.5),
        ("model", "norm_eps", float("nan")),
        ("model", "segment_lengths", 3),
        ("model", "unheard", 1),
    ],
)
def test_a_setting_of_the_wrong_kind_is_refused(folder, place, key, value):
    recorded(folder, lambda record: record["settings"][place].update({key: value}))
    with pytest.raises(InputError, match=rf"fold0\.json: settings\.{place}\.{key}.*{REMEDY}"):
        load_fold(folder, 0)


@pytest.mark.parametrize(("key", "value"), [("depth", 10**6), ("dim", 4 * 10**6), ("mlp_ratio", 1e308)])
def test_a_record_that_claims_more_than_its_weights_takes_no_memory(folder, key, value):
    recorded(folder, lambda record: record["settings"]["model"].update({key: value}))
    encoder = json.loads((folder / "fold0.json").read_text())["settings"]["input"]["encoder"]
    if encoder == "longnet" or (encoder == "abmil" and key == "dim"):
        with pytest.raises(InputError, match="it tells of a larger model"):
            load_fold(folder, 0)
    else:
        load_fold(folder, 0)


def test_files_of_another_fold_or_run_are_refused(folder):
    other = (folder / "fold1.safetensors").read_bytes()
    whole = (folder / "fold0.safetensors").read_bytes()
    (folder / "fold0.safetensors").write_bytes(other)
    with pytest.raises(InputError, match=rf"fold0\.json and its \.safetensors: one is of another fold.*{REMEDY}"):
        load_fold(folder, 0)
    (folder / "fold0.json").write_bytes((folder / "fold1.json").read_bytes())
    with pytest.raises(InputError, match="one is of another fold"):
        load_fold(folder, 0)
    (folder / "fold0.safetensors").write_bytes(whole)
    with pytest.raises(InputError, match="one is of another fold"):
        load_fold(folder, 0)
    recorded(folder, lambda record: record.update(fold=0, stamp="t"))
    with pytest.raises(InputError, match="of two runs"):
        load_fold(folder, 0)
    for missing in ("fold0.safetensors", "fold0.json"):
        (folder / missing).unlink()
        with pytest.raises(InputError, match=r"not a readable checkpoint|no such file"):
            load_fold(folder, 0)
