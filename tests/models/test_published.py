import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from hsa.bags.batches import Bags, collate
from hsa.encoders import hub
from hsa.errors import InputError
from hsa.files import REPOSITORY
from hsa.models import checkpoints
from hsa.models.longnet import LongNet
from hsa.models.model import SlideModel
from hsa.models.published import GIGAPATH, fingerprint, load_published, path_of, segment_lengths, start
from hsa.study.settings import Model
from hsa.study.study import load
from hsa.training import fit

SMALL = GIGAPATH | {"in_dim": 24, "dim": 32, "depth": 2}


def weights(seed=1):
    torch.manual_seed(seed)
    return {k: torch.randn_like(v) for k, v in LongNet(**SMALL).state_dict().items()}


def with_head(prefix):
    named = {f"{prefix}slide_encoder.{k}": v for k, v in weights().items()}
    for name, shape in {"0.weight": (8, 32), "0.bias": (8,), "3.weight": (2, 8), "3.bias": (2,)}.items():
        named[f"{prefix}classification_head.{name}"] = torch.ones(shape)
    return named


def test_published_configuration():
    assert segment_lengths() == [1024, 5792, 32768, 185363, 1048576]
    assert segment_lengths(16384) == [1024, 1448, 2048, 2896, 4096]
    with torch.device("meta"):
        model = LongNet(**GIGAPATH)
    assert len(model.state_dict()) == len(list(model.parameters())) == 247
    assert sum(p.numel() for p in model.parameters()) == 86_330_880
    assert model.norm.eps == 1e-6


def test_names_are_those_of_the_published_checkpoint():
    golden = np.load(Path(__file__).parents[1] / "data" / "longnet.npz")
    meta = json.loads(str(golden["a_meta"]))
    with torch.device("meta"):
        model = LongNet(**GIGAPATH | {"in_dim": 48, "dim": 256, "depth": 8})
    assert {k: list(v.shape) for k, v in model.state_dict().items()} == meta["keys"]


@pytest.mark.parametrize(
    "content",
    [
        {"model": weights()},
        weights(),
        with_head("module."),
        with_head(""),  # single GPU: the official code loads 0 of 247 tensors from it, without a word
        {"model_state_dict": with_head("module."), "epoch": 3},
    ],
    ids=["gigapath", "plain", "several-gpus", "one-gpu", "wrapped"],
)
def test_every_published_layout_loads_in_full(content, tmp_path):
    torch.save(content, tmp_path / "slide_encoder.pth")
    for source in (content, tmp_path / "slide_encoder.pth"):
        model = LongNet(**SMALL)
        head = load_published(model, source)
        for name, value in weights().items():
            assert torch.equal(model.state_dict()[name], value)
        has_head = any("classification_head" in key for key in content.get("model_state_dict", content))
        assert sorted(head) == (["0.bias", "0.weight", "3.bias", "3.weight"] if has_head else [])


def test_safetensors(tmp_path):
    safetensors.torch.save_file(weights(), tmp_path / "w.safetensors")
    model = LongNet(**SMALL)
    assert load_published(model, tmp_path / "w.safetensors") == {}
    assert torch.equal(model.state_dict()["norm.bias"], weights()["norm.bias"])


def test_nothing_loads_unless_all_of_it_fits(tmp_path):
    model, name = LongNet(**SMALL), "encoder.layers.1.ffn.fc1.weight"
    before = {k: v.clone() for k, v in model.state_dict().items()}
    missing = {k: v for k, v in weights().items() if k != name}
    for content, message in [
        (missing, f"{name} is missing"),
        (weights() | {name: torch.zeros(3, 2)}, r"fc1.weight is \(3, 2\), expected \(128, 32\)"),
        (weights() | {"mask_token": torch.zeros(1)}, "mask_token is unknown"),
        ({f"net.{k}": v for k, v in weights().items()}, "cls_token is missing"),
    ]:
        with pytest.raises(InputError, match=message):
            load_published(model, {"model": content})
    (tmp_path / "text.pth").write_text("not weights")
    (tmp_path / "text.safetensors").write_text("not weights")
    for file, message in [
        ("text.pth", "not a readable"),
        ("text.safetensors", "not a readable"),
        ("no", "no such"),
    ]:
        with pytest.raises(InputError, match=message):
            load_published(model, tmp_path / file)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize("value", [float("nan"), torch.ones(2).to_sparse(), 1, torch.ones(2, dtype=torch.int8)])
def test_weights_that_are_no_finite_tensors_are_refused(value):
    first = next(iter(weights()))
    odd = torch.full_like(weights()[first], value) if isinstance(value, float) else value
    with pytest.raises(InputError, match=f"'{first}' and 0 more are no tensors of finite numbers"):
        load_published(LongNet(**SMALL), weights() | {first: odd})


def test_a_text_named_as_weights_is_refused(tmp_path):
    (tmp_path / "w.pth").write_text("hello")  # torch raises a KeyError
    with pytest.raises(InputError, match="not a readable file of weights"):
        load_published(LongNet(**SMALL), tmp_path / "w.pth")
    with pytest.raises(InputError, match="not a readable file of weights"):
        hub.read_weights("x", tmp_path / "w.pth")


@pytest.mark.parametrize("record", ['{"stamp": "s"', '{"stamp": "s"}', "{}"])
def test_a_damaged_record_of_a_fold_is_told(tmp_path, record):
    (tmp_path / "fold0.json").write_text(record)
    checkpoints.save_tensors(tmp_path / "fold0.safetensors", weights(), {"stamp": "s"})
    with pytest.raises(InputError, match=r"fold0\.json.*Delete"):
        checkpoints.load_fold(tmp_path, 0)


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        ({"dim": 64}, r"Set model\.dim to 32 \(it is 64\), or"),
        ({"depth": 3, "mlp_ratio": 2.0}, r"Set model\.depth to 2 \(it is 3\), model\.mlp_ratio to 4 \(it is 2\)"),
        ({"in_dim": 48}, r"Set encoder\.name to a tile encoder of 24 features \(yours gives 48"),
        (None, "not \\(all of\\) a LongNet"),
    ],
)
def test_another_architecture_says_which_key_to_set(change, remedy):
    content = weights() if change else {"layer1.0.conv1.weight": torch.zeros(4, 4)}
    with pytest.raises(InputError, match=remedy):
        load_published(LongNet(**SMALL | (change or {})), content)


KEYS = {k: v for k, v in SMALL.items() if k != "in_dim"} | {"heads": 4, "segment_lengths": [4, 16, 64, 256, 1024]}


@pytest.fixture
def pretrained(tiny_study, tiny_cohort):
    """The tiny study, started from a file of weights beside it."""
    torch.manual_seed(8)
    encoder = LongNet(**SMALL | KEYS | {"in_dim": 6})
    torch.save({"model": encoder.state_dict()}, tiny_study.file.parent / "slide_encoder.pth")
    model = Model(**KEYS, weights="slide_encoder.pth", standardise=False, head_hidden=8)
    return tiny_study.model_copy(update={"model": model})


def test_a_study_names_its_weights(pretrained):
    model, file = pretrained.model, pretrained.file
    path = path_of(model, file)
    assert path == (file.parent / "slide_encoder.pth").resolve()
    assert path_of(model.model_copy(update={"weights": str(path)}), "elsewhere/study.yml") == path
    assert path_of(model.model_copy(update={"weights": None}), file) is fingerprint(None) is None
    encoder = SlideModel(6, "longnet", model, 2).encoder
    start(encoder, model, path)
    torch.manual_seed(8)
    expected = LongNet(**SMALL | KEYS | {"in_dim": 6}).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in encoder.state_dict().items())
    path.unlink()
    with pytest.raises(
        InputError, match=r"model\.weights: no file .*slide_encoder\.pth.*huggingface\.co/prov-gigapath"
    ):
        start(encoder, model, path)


@pytest.mark.parametrize(("key", "value"), [("heads", 12), ("norm_eps", 1e-5)])
def test_what_the_file_does_not_hold_is_checked_for_the_published_size(key, value, tmp_path):
    settings = Model(**{k: v for k, v in GIGAPATH.items() if k != "in_dim"} | {key: value, "weights": "w.pth"})
    (tmp_path / "w.pth").touch()
    with pytest.raises(InputError, match=rf"model\.{key} is {value:g}"):
        start(None, settings, tmp_path / "w.pth")


def test_norm_eps_and_pooling_reach_the_encoder():
    model = SlideModel(24, "longnet", Model(**KEYS), 0)
    assert model.encoder.norm.eps == 1e-6
    assert model.options == {"layer": 2, "final_norm": False, "pool": "mean"}
    assert SlideModel(24, "longnet", Model(**KEYS | {"norm_eps": 1e-5}), 0).encoder.norm.eps == 1e-5


def test_the_published_encoder_as_it_is(pretrained, tiny_cohort, tmp_path):
    """No losses: the embeddings are those of the file, layer 2 of 2, features unscaled; the file may go then."""
    he, _ = fit.fit(pretrained, tiny_cohort, "P53", "untrained", tmp_path / "out", progress=False)
    path = path_of(pretrained.model, pretrained.file)
    encoder = LongNet(**SMALL | KEYS | {"in_dim": 6}).eval()
    load_published(encoder, path)
    bags = Bags(pretrained.paths.bags)
    row = he[(he["fold"] == 1) & (he["slide_id"] == "C03_HE")].filter(regex=r"^v\d+$").to_numpy()
    with torch.inference_mode():
        expected = encoder(*collate([bags["C03_HE"]])).numpy()
    np.testing.assert_allclose(row, expected, atol=1e-5)
    assert he.attrs == {"encoder": "longnet", "layer": 2, "final_norm": False, "pool": "mean"}
    sha = fingerprint(path)
    path.unlink()
    again = fit.embed_he(pretrained, tiny_cohort, "P53", tmp_path / "out")
    assert again.equals(he)
    _, record = checkpoints.load_fold(tmp_path / "out", 0)
    assert record["settings"]["weights"] == sha


def test_fine_tuning_starts_from_the_file(pretrained, tiny_cohort, tmp_path):
    slow = pretrained.training.model_copy(update={"epochs": 1, "lr": 1e-7})
    study = pretrained.model_copy(update={"training": slow})
    fit.fit(study, tiny_cohort, "P53", "full", tmp_path, progress=False)
    model, _ = checkpoints.load_fold(tmp_path, 0)
    source = torch.load(path_of(study.model, study.file), weights_only=True)["model"]
    moved = [float((value.detach() - source[name]).abs().max()) for name, value in model.encoder.state_dict().items()]
    assert 0 < max(moved) < 1e-5
    other = {name: value + 1 for name, value in source.items()}
    torch.save({"model": other}, path_of(study.model, study.file))
    fit.fit(study, tiny_cohort, "P53", "full", tmp_path, progress=False)  # other weights: trained again
    model, _ = checkpoints.load_fold(tmp_path, 0)
    assert float((model.encoder.norm.bias.detach() - other["norm.bias"]).abs().max()) < 1e-5


def test_the_head_may_have_a_pass_of_its_own(pretrained):
    bag = collate([Bags(pretrained.paths.bags)["C03_HE"]])
    for own in (False, True):
        settings = pretrained.model.model_copy(update={"as_published": own, "head_dropout": 0.0})
        model = SlideModel(6, "longnet", settings, 2)
        output = model.train()(bag)
        assert set(output) == {"z", "logits"}
        assert torch.equal(model.head(output["z"]), output["logits"]) != own  # another dropout, other logits
        output = model.eval()(bag)
        assert torch.equal(model.head(output["z"]), output["logits"])


def test_the_paper_study_has_the_published_settings():
    study = load(REPOSITORY / "studies" / "paper.yml")
    model, fitting = study.model, study.training
    assert all(getattr(model, key) == value for key, value in GIGAPATH.items() if key != "in_dim")
    assert (model.dropout, model.drop_path, model.pool, model.final_norm) == (0.25, 0.1, "mean", False)
    assert model.layer == 12 and not model.standardise and model.weights.endswith("slide_encoder.pth")
    assert (fitting.lr, fitting.min_lr, fitting.weight_decay, fitting.warmup_epochs) == (5e-5, 5e-7, 0.01, 2)
    assert (fitting.epochs, fitting.batch, fitting.tiles_per_slide, fitting.temperature) == (25, 12, 4096, 0.01)
    assert (study.encoder.name, study.tiles.size_px, study.tiles.mpp) == ("prov-gigapath", 256, 0.5)
    assert (study.seeds, study.evaluation.folds, fitting.precision) == ([1234], 5, "bf16-mixed")
    assert study.methods["published"].losses == [] and study.methods["published"].encoder == "longnet"
    smoke = load(REPOSITORY / "studies" / "smoke.yml")
    assert {k: m.published_f1 for k, m in study.markers.items()} == {
        k: m.published_f1 for k, m in smoke.markers.items()
    }
