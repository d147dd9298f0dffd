import itertools
import json
import os
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from lightning_fabric import Fabric

from hsa.bags.bag import Bag, write_bag
from hsa.bags.batches import Bags
from hsa.cohorts.cohort import fold_table
from hsa.errors import InputError
from hsa.models import checkpoints
from hsa.models.longnet import LongNet
from hsa.models.model import SlideModel
from hsa.study.settings import Marker, Training
from hsa.training import epoch, fit, fold, validation
from hsa.training.epoch import learning_rate, seed_torch, train_epoch
from hsa.training.start import repeatable
from hsa.training.terms import Run, loss_terms
from hsa.training.validation import embed_slides

CASES, WIDTH = 21, 6


@pytest.fixture
def study(tiny_study):
    return tiny_study


@pytest.fixture
def cohort(tiny_cohort):
    return tiny_cohort


def run_fit(study, cohort, folder, method="full", **options):
    return fit.fit(study, cohort, "P53", method, folder, progress=False, **options)


def weights(folder):
    return [safetensors.torch.load_file(folder / f"fold{k}.safetensors") for k in range(3)]


def shorter(study, epochs=1):
    return study.model_copy(update={"training": study.training.model_copy(update={"epochs": epochs})})


def same(a, b):
    return all(x.keys() == y.keys() and all(torch.equal(x[k], y[k]) for k in x) for x, y in zip(a, b, strict=True))


def test_fit_writes_what_it_says(study, cohort, tmp_path):
    he, ihc = run_fit(study, cohort, tmp_path / "out")
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {f"fold{k}.{s}" for k in range(3) for s in ("json", "safetensors")} | {
        "embeddings_he.parquet", "embeddings_ihc.parquet"
    }  # fmt: skip
    for frame, stain in ((he, "HE"), (ihc, "P53")):
        name = "he" if stain == "HE" else "ihc"
        pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "out" / f"embeddings_{name}.parquet"), frame)
        keys = ["slide_id", "case_id", "patient_id", "stain", "fold", "split", "label"]
        assert list(frame.columns) == [*keys, *(f"v{i}" for i in range(16))]
        assert len(frame) == 3 * CASES and set(frame["stain"]) == {stain}
        assert (frame["slide_id"] == frame["case_id"] + "_" + stain).all()
        assert (frame[frame["split"] == "test"].groupby("case_id").size() == 1).all()
        assert frame["v0"].dtype == np.float32
        assert frame.attrs == {"encoder": "longnet", "layer": 2, "final_norm": False, "pool": "mean"}
    record = json.loads((tmp_path / "out" / "fold1.json").read_text())
    assert record["embedding"] == {"layer": 2, "final_norm": False, "pool": "mean"}
    assert [row["epoch"] for row in record["history"]] == [0, 1, 2]
    for row in record["history"]:
        for split in ("train", "val"):
            terms = dict(row[split])
            assert terms.pop("total") == pytest.approx(sum(terms.values()), rel=1e-5)
            assert set(terms) == {"intra_modality", "info_nce", "classification"}
    totals = [row["val"]["total"] for row in record["history"]]
    assert record["best_epoch"] == totals.index(min(totals))


def test_two_runs_are_equal_and_seeds_differ(study, cohort, tmp_path):
    run_fit(study, cohort, tmp_path / "a")
    torch.manual_seed(99)  # what ran before in this process plays no part
    state = torch.get_rng_state()
    run_fit(study, cohort, tmp_path / "b")
    assert torch.equal(torch.get_rng_state(), state)
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    run_fit(study.at(4), cohort, tmp_path / "c")
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "c"))


def test_no_gpu_but_its_own_is_touched_and_cublas_is_told_to_repeat(monkeypatch):
    kept = []
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: kept.append(device))
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: None)
    with repeatable(torch.device("cpu"), threads=1):
        assert kept == [] and os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    with repeatable(torch.device("cuda", 3), threads=1):
        assert kept == [torch.device("cuda", 3)]


def test_new_memory_is_not_written_for_nothing_and_torch_is_left_as_it_was_found():
    deterministic = torch.utils.deterministic
    for before in (True, False):
        deterministic.fill_uninitialized_memory = before
        with pytest.raises(RuntimeError, match="midway"), repeatable(torch.device("cpu"), threads=1):
            assert torch.are_deterministic_algorithms_enabled()
            assert not deterministic.fill_uninitialized_memory
            raise RuntimeError("midway")
        assert deterministic.fill_uninitialized_memory is before
        assert not torch.are_deterministic_algorithms_enabled()
    deterministic.fill_uninitialized_memory = True


@pytest.mark.parametrize("stop_after", [1, 3])  # in a fold, and at its end
def test_an_interrupted_run_ends_as_if_it_had_not_been(study, cohort, tmp_path, monkeypatch, stop_after):
    run_fit(study, cohort, tmp_path / "whole")
    save, done = checkpoints.Resume.save, []

    def save_then_stop(self, *arguments):
        save(self, *arguments)
        done.append(self.path)
        if len(done) == stop_after:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints.Resume, "save", save_then_stop)
    with pytest.raises(KeyboardInterrupt):
        run_fit(study, cohort, tmp_path / "cut")
    assert not (tmp_path / "cut" / "embeddings_he.parquet").exists()
    run_fit(study, cohort, tmp_path / "cut")
    assert len(done) == 9  # no epoch was done twice
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    for name in ("fold0.json", "fold1.json", "fold2.json", "embeddings_he.parquet"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()
    assert not list((tmp_path / "cut").glob("*resume*"))


def test_finished_folds_are_kept_until_something_changes(study, cohort, tmp_path, monkeypatch):
    folder, trained, study = tmp_path / "out", [], shorter(study)
    train_fold = fit.train_fold
    monkeypatch.setattr(fit, "train_fold", lambda *a: trained.append(a[0].seed) or train_fold(*a))
    run_fit(study, cohort, folder)
    run_fit(study, cohort, folder)
    assert trained == [(3, 0), (3, 1), (3, 2)]
    (folder / "fold1.json").unlink()
    run_fit(study, cohort, folder)
    assert trained[3:] == [(3, 1)]
    bag = Bags(study.paths.bags)["C00_P53"]
    attrs = {"tile_px": 256, "tile_px_level0": 256, "stamp": "another"}
    write_bag(study.paths.bags / "C00_P53.h5", Bag(*bag, attrs))
    run_fit(study, cohort, folder)
    assert len(trained) == 7


def test_prediction_never_reads_ihc(study, cohort, tmp_path):
    he, _ = run_fit(study, cohort, tmp_path / "out")
    for path in study.paths.bags.glob("*_P53.h5"):
        path.unlink()
    again = fit.embed_he(study, cohort, "P53", tmp_path / "out")
    pd.testing.assert_frame_equal(again, he, check_exact=True)


def test_one_call_of_the_encoder_a_step_and_only_the_passes_that_a_loss_needs(study, cohort, tmp_path, monkeypatch):
    slides, forward, study = [], LongNet.forward, shorter(study)

    def counted(self, features, *arguments, **options):
        if self.training:
            slides.append(len(features))
        return forward(self, features, *arguments, **options)

    monkeypatch.setattr(LongNet, "forward", counted)
    for name, passes in {
        "classification": 1,
        "classification intra_modality": 2,
        "info_nce": 2,
        "intra_modality": 2,
        "intra_modality info_nce classification": 3,
    }.items():
        slides.clear()
        method = study.methods["full"].model_copy(update={"losses": name.split()})
        run_fit(study.model_copy(update={"methods": {"m": method}}), cohort, tmp_path / name, "m")
        assert slides == [passes * 7] * 3  # 7 training cases a fold: 6 and one that joins them


def test_untrained_and_mean_are_embedded_too(study, cohort, tmp_path):
    he, ihc = run_fit(study, cohort, tmp_path / "mean", "mean")
    row = he[(he["fold"] == 1) & (he["case_id"] == "C03")].filter(regex="^v").to_numpy()[0]
    train = he[(he["fold"] == 1) & (he["split"] == "train")]["slide_id"]
    bags = Bags(study.paths.bags)
    tiles = np.concatenate([bags[s][0] for s in train]).astype(float)
    expected = (bags["C03_HE"][0].astype(float).mean(0) - tiles.mean(0)) / tiles.std(0)
    np.testing.assert_allclose(row, expected, atol=1e-5)
    assert len(ihc.filter(regex="^v").columns) == WIDTH
    untrained, _ = run_fit(study, cohort, tmp_path / "untrained", "untrained")
    assert json.loads((tmp_path / "untrained" / "fold0.json").read_text())["history"] == []
    assert untrained.filter(regex="^v").to_numpy().std() > 0.1
    abmil, _ = run_fit(study, cohort, tmp_path / "abmil", "abmil")
    assert np.isfinite(abmil.filter(regex="^v").to_numpy()).all()


def test_the_epoch_of_lowest_validation_loss_is_kept(study, cohort, tmp_path, monkeypatch):
    losses, seen = iter([3.0, 1.0, 2.0] * 3), []

    def validate(run, model, cases):
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        return {"total": next(losses)}

    monkeypatch.setattr(fold, "validate", validate)
    run_fit(study, cohort, tmp_path)
    assert same(weights(tmp_path), seen[1::3])
    assert json.loads((tmp_path / "fold2.json").read_text())["best_epoch"] == 1


def test_a_loss_that_is_not_finite_stops(study, cohort, tmp_path):
    wild = study.training.model_copy(update={"lr": 1e30, "warmup_epochs": 0})
    with pytest.raises(InputError, match=r"lower training\.lr"):
        run_fit(study.model_copy(update={"training": wild}), cohort, tmp_path)


def test_methods_start_from_one_encoder(study):
    models = []
    for classes in (0, 2):
        seed_torch(3, 0)
        models.append(SlideModel(WIDTH, "longnet", study.model, classes).encoder.state_dict())
    assert same(models[:1], models[1:])


@pytest.fixture
def partial_cohort(cohort):
    """Every third case lacks its IHC slide, every fourth its label."""
    slides, labels = cohort.slides, cohort.labels.copy()
    number = slides["case_id"].str[1:].astype(int)
    labels.loc[[case for case in labels.index if int(case[1:]) % 4 == 1], "P53"] = np.nan
    return replace(cohort, slides=slides[(number % 3 > 0) | (slides["stain"] == "HE")], labels=labels)


def test_cases_without_ihc_or_label_train_what_they_can(study, partial_cohort, tmp_path, monkeypatch):
    seen = []
    terms = loss_terms
    for room in (epoch, validation):
        monkeypatch.setattr(room, "loss_terms", lambda *a, **k: seen.append(a[1:3]) or terms(*a, **k))
    he, ihc = run_fit(shorter(study), partial_cohort, tmp_path)
    assert any((labels < 0).any() for labels, _ in seen) and any((~paired).any() for _, paired in seen)
    assert set(ihc["case_id"]) == {f"C{i:02}" for i in range(21) if i % 3}
    assert set(he["label"]) == {-1, 0, 1}
    history = json.loads((tmp_path / "fold0.json").read_text())["history"]
    assert all(history[0][part][name] > 0 for part in ("train", "val") for name in study.methods["full"].losses)


def test_what_stands_for_a_missing_slide_has_no_effect(study, partial_cohort, tmp_path, monkeypatch):
    run_fit(shorter(study), partial_cohort, tmp_path / "a")
    read = Bags.__getitem__
    other = np.full((3, WIDTH), 9, np.float16), np.zeros((3, 2), np.int64)
    monkeypatch.setattr(Bags, "__getitem__", lambda self, slide: read(self, slide) if slide else other)
    run_fit(shorter(study), partial_cohort, tmp_path / "b")
    a, b = (json.loads((tmp_path / x / "fold1.json").read_text())["history"][0] for x in "ab")
    assert a["val"]["info_nce"] == pytest.approx(b["val"]["info_nce"], rel=1e-5)
    for x, y in zip(weights(tmp_path / "a"), weights(tmp_path / "b"), strict=True):
        assert all(torch.allclose(x[name], y[name], atol=1e-6) for name in x)


def test_three_classes_have_three_outputs(study, cohort, tmp_path):
    three = Marker(classes=["low", "middle", "high"])
    labels = pd.DataFrame({"P53": {case: int(case[1:]) % 3 for case in cohort.labels.index}})
    more = study.model_copy(update={"markers": {"P53": three}})
    he, _ = run_fit(shorter(more), replace(cohort, labels=labels, markers={"P53": three}), tmp_path)
    assert weights(tmp_path)[0]["head.3.weight"].shape[0] == 3
    assert set(he["category"]) == {0, 1, 2} and set(he["label"]) == {0, 1}


def test_training_learns_labels_of_unseen_cases(study, cohort, tmp_path):
    settings = study.training.model_copy(update={"epochs": 25, "lr": 3e-3})
    table = fold_table(study, cohort, "P53")
    rows = table[table["fold"] == 0]
    fabric, bags = Fabric(accelerator="cpu", devices=1), Bags(study.paths.bags)
    seed_torch(0)
    model = SlideModel(WIDTH, "longnet", study.model, 2)
    run = Run(fabric, bags, settings, study.methods["full"].losses, (0,))
    history = fold.train_fold(run, model, rows, checkpoints.Resume(tmp_path, 0, "s"), lambda: None)
    assert history[-1]["train"]["total"] < 0.7 * history[0]["train"]["total"]
    test = rows[rows["split"] == "test"]
    with torch.inference_mode():
        z = embed_slides(fabric, model, bags, test["he"], "he", settings)
        positive = model.head(z).softmax(1)[:, 1].numpy()
    assert positive[test["label"] == 1].mean() > positive[test["label"] == 0].mean()


def test_learning_rate_is_the_published_schedule():
    settings = Training(epochs=25, lr=5e-5, min_lr=5e-7, warmup_epochs=2, warmup_factor=1e-5)
    rates = [learning_rate(step, 10, settings) for step in range(250)]
    assert rates[0] == pytest.approx(5e-10)
    assert rates[10] == pytest.approx(2.5e-5, rel=1e-4)
    assert rates[20] == pytest.approx(5e-5)
    assert rates[-1] == pytest.approx(5e-7)
    assert np.all(np.diff(rates[:21]) > 0) and np.all(np.diff(rates[20:]) < 0)
    middle = (20 + 249) / 2
    assert learning_rate(middle, 10, settings) == pytest.approx((5e-5 + 5e-7) / 2)
    quarter = 20 + (249 - 20) / 3  # cos(60 degrees) = 1/2
    assert learning_rate(quarter, 10, settings) == pytest.approx(5e-7 + 0.75 * (5e-5 - 5e-7))
    assert learning_rate(0, 1, Training(epochs=1, warmup_epochs=0)) == 5e-5


def test_what_the_embedding_does_not_use_is_frozen(study):
    frozen = [n for n, p in SlideModel(WIDTH, "longnet", study.model, 2).named_parameters() if not p.requires_grad]
    assert frozen == ["encoder.encoder.layer_norm.weight", "encoder.encoder.layer_norm.bias"]
    early = study.model.model_copy(update={"layer": 1, "final_norm": True})
    frozen = [n for n, p in SlideModel(WIDTH, "longnet", early, 2).named_parameters() if not p.requires_grad]
    assert frozen and all(name.startswith("encoder.encoder.layers.1.") for name in frozen)


def test_wrong_input_is_told(study, cohort, tmp_path):
    with pytest.raises(InputError, match="unknown method"):
        run_fit(study, cohort, tmp_path, "fulll")
    with pytest.raises(InputError, match=r"fold0\.json: no such file\. Train it"):
        fit.embed_he(study, cohort, "P53", tmp_path)
    bag = Bags(study.paths.bags)["C01_HE"]
    attrs = {"tile_px": 256, "tile_px_level0": 256}
    write_bag(study.paths.bags / "C01_HE.h5", Bag(bag[0][:, :4], bag[1], attrs))
    with pytest.raises(InputError, match="encode all slides with one tile encoder"):
        run_fit(study, cohort, tmp_path)
    (study.paths.bags / "C01_HE.h5").unlink()
    with pytest.raises(InputError, match=r"C01_HE\.h5 does not exist"):
        run_fit(study, cohort, tmp_path)


def test_damaged_checkpoints_are_told(study, cohort, tmp_path):
    run_fit(study, cohort, tmp_path, "untrained")
    whole = (tmp_path / "fold2.safetensors").read_bytes()
    (tmp_path / "fold2.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"fold2\.safetensors: not a readable checkpoint"):
        fit.embed_he(study, cohort, "P53", tmp_path)
    record = json.loads((tmp_path / "fold1.json").read_text())
    (tmp_path / "fold1.json").write_text(json.dumps(record | {"stamp": "old"}))
    with pytest.raises(InputError, match="of two runs"):
        checkpoints.load_fold(tmp_path, 1)


ALL = ("intra_modality", "info_nce", "classification")


def one_epoch(fabric, study, cases, split="train", losses=ALL):
    """Weights after an epoch without dropout; plain SGD, which keeps small differences small."""
    still = study.model.model_copy(update={"dropout": 0.0, "drop_path": 0.0, "head_dropout": 0.0})
    seed_torch(0)
    model = SlideModel(WIDTH, "longnet", still, 2 if "classification" in losses else 0)
    settings = study.training.model_copy(update={"lr": 0.1, "warmup_epochs": 0, "temperature": 0.5})
    run = Run(fabric, Bags(study.paths.bags), settings, losses, (0,))
    learned = [p for p in model.parameters() if p.requires_grad]
    wrapped, optimiser = fabric.setup(model, torch.optim.SGD(learned, 0.1))
    terms = train_epoch(run, wrapped, optimiser, cases.assign(split=split), 0)
    return {name: value.detach().clone() for name, value in model.state_dict().items()}, terms


def some_unpaired(cohort):
    cases = cohort.cases("P53").head(12)
    return cases.assign(ihc=cases["ihc"].where(~cases["case_id"].isin(["C03", "C07"]), ""))


def combinations():
    """All sets of losses, with cases whose label is not used: 4 of the first step's 6, the second process's 3 among
    them, and 1 of the second's; or all."""
    first, second = np.random.default_rng([0, 1]).permutation(12).reshape(2, 6)  # as `train_epoch` draws them
    some = np.full(12, "train", object)
    some[[*first[1::2], first[0], second[3]]] = "pairs"
    sets = [losses for size in (1, 2, 3) for losses in itertools.combinations(ALL, size)]
    return [(losses, "train") for losses in sets] + [(losses, some) for losses in sets] + [(ALL, "pairs")]


def in_each_process(fabric, study, cohort, folder):
    torch.set_num_threads(1)
    for k, (losses, split) in enumerate(combinations()):
        state, terms = one_epoch(fabric, study, some_unpaired(cohort), split, losses)
        if fabric.global_rank == 0:
            safetensors.torch.save_file(state, folder / f"epoch{k}.safetensors", {"terms": json.dumps(terms)})
    frames = run_fit(shorter(study), cohort, folder, fabric=fabric)
    assert (frames is None) == (fabric.global_rank > 0)


@pytest.mark.slow
def test_two_processes_make_the_step_of_one(study, cohort, tmp_path):
    """Negatives, labels, gradients and unused parameters, by two real processes (gloo)."""
    fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp_spawn")
    fabric.launch(partial(in_each_process, study=study, cohort=cohort, folder=tmp_path))
    alone = Fabric(accelerator="cpu", devices=1)
    alone.launch()
    for k, (losses, split) in enumerate(combinations()):
        expected, terms = one_epoch(alone, study, some_unpaired(cohort), split, losses)
        with safetensors.safe_open(tmp_path / f"epoch{k}.safetensors", "pt") as file:
            assert json.loads(file.metadata()["terms"]) == pytest.approx(terms, rel=1e-4), (losses, split)
            for name, value in expected.items():
                torch.testing.assert_close(file.get_tensor(name), value, atol=1e-5, rtol=1e-4)
    assert (tmp_path / "embeddings_he.parquet").is_file()


def test_half_precision(study, cohort, tmp_path):
    half = study.training.model_copy(update={"precision": "bf16-mixed", "epochs": 1})
    he, _ = run_fit(study.model_copy(update={"training": half}), cohort, tmp_path / "half")
    expected, _ = run_fit(shorter(study), cohort, tmp_path / "full")
    assert weights(tmp_path / "half")[0]["encoder.norm.weight"].dtype == torch.float32
    vectors, expected = (frame.filter(regex="^v").to_numpy() for frame in (he, expected))
    assert 0 < np.abs(vectors - expected).max() < 0.3  # not the same, not far off


def test_a_case_without_a_label_trains_by_its_pair_alone(study, cohort, tmp_path):
    cases = cohort.cases("P53").head(12).assign(split="pairs")
    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.launch()
    for labels in (cases["label"], 1 - cases["label"]):
        state, terms = one_epoch(fabric, study, cases.assign(label=labels), "pairs")
        assert terms["classification"] == 0 and terms["info_nce"] > 0
    known, _ = one_epoch(fabric, study, cases.assign(label=labels))
    assert not torch.equal(known["head.0.weight"], state["head.0.weight"])
    flipped, _ = one_epoch(fabric, study, cases, "pairs")
    assert all(torch.equal(state[name], flipped[name]) for name in state)


def test_mean_colour_reads_the_colours_and_not_the_features(study, cohort, tmp_path):
    way = study.methods["mean"].model_copy(update={"encoder": "colour"})
    coloured = study.model_copy(update={"methods": study.methods | {"mean_colour": way}})
    he, _ = run_fit(coloured, cohort, tmp_path / "colour", "mean_colour")
    assert he.filter(regex=r"^v\d+$").shape[1] == 6
    model, _ = checkpoints.load_fold(tmp_path / "colour", 0)
    tiles = Bags(study.paths.bags, colours=True)["C00_HE"][0]
    expected = (tiles.mean(0) - model.he_mean.numpy()) / model.he_deviation.numpy()
    row = he[(he["slide_id"] == "C00_HE") & (he["fold"] == 0)]
    np.testing.assert_allclose(row.filter(regex=r"^v\d+$").to_numpy()[0], expected, rtol=1e-4)
    again = fit.embed_he(coloured, cohort, "P53", tmp_path / "colour")
    pd.testing.assert_frame_equal(again, he)
