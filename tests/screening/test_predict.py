import json
import os
import shutil
import unicodedata
from dataclasses import replace

import matplotlib

matplotlib.use("Agg")

import h5py
import numpy as np
import pandas as pd
import pytest
import safetensors.torch
from matplotlib.image import imread
from scipy.special import expit, logit
from typer.testing import CliRunner

from hsa.bags import batches
from hsa.cli import app
from hsa.errors import InputError
from hsa.models.checkpoints import load_fold
from hsa.screening import caveats, predict, predictor, triage, worklist
from hsa.screening.predictor import load_predictor
from hsa.slides.slide import Slide
from hsa.study.settings import Marker


def run(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_a_prediction_is_the_mean_of_the_folds_log_odds(trained, make_slide, tmp_path):
    path = make_slide("a.tif")
    result = run("predict", path, "--model", trained, "--out", tmp_path / "out", "--quiet")
    assert result.exit_code == 0, result.output
    assert caveats.NOTICE in result.stdout and caveats.NOTICE in (tmp_path / "out/summary.txt").read_text()
    row = pd.read_csv(tmp_path / "out/predictions.csv", keep_default_na=False).iloc[0]
    tiles = batches.Bags(tmp_path / "out/bags")["a"]
    logits = []
    for probe in json.loads((trained / "probe.json").read_text())["folds"]:
        z = load_fold(trained, probe["fold"])[0].embed(batches.collate([tiles]), "he")[0].detach().numpy()
        logits.append((z - probe["mean"]) / probe["scale"] @ probe["coef"] + probe["intercept"])
    numbers = expit([np.mean(logits), min(logits), max(logits)])
    np.testing.assert_allclose(row[["probability", "low", "high"]].astype(float), numbers, atol=1e-6)
    assert row["call"] == ("aberrant" if row["probability"] > 0.5 else "wild-type")
    assert (row["slide"], row["tiles"], row["warning"]) == ("a.tif", len(tiles[0]), "")


def test_the_heat_map_says_what_each_tile_adds(trained, make_slide, tmp_path, encode):
    path = make_slide("a.tif", covered=0.7)
    assert run("predict", path, "--model", trained, "--out", tmp_path / "out", "--quiet").exit_code == 0
    table = pd.read_csv(tmp_path / "out/a_heatmap.csv")
    assert list(table) == ["x", "y", "importance"] and len(table) > 4
    model = load_predictor(trained)
    reading = predict.read_slide(model, path, "a", tmp_path / "out/bags")
    features, coords = reading.tiles
    chosen = int(table["importance"].abs().argmax())
    falls = []
    for score, mean in zip(model.scores, model.means, strict=True):
        changed = features.astype(np.float32)
        changed[chosen] = mean
        whole, without = (float(score(batches.collate([(f, coords)]))[0]) for f in (features, changed))
        falls.append(whole - without)
    assert table["importance"][chosen] == pytest.approx(np.mean(falls), abs=1e-4)
    with Slide.open(path) as slide:
        x, y = table.loc[chosen, ["x", "y"]].astype(int)
        pixels = slide.read(x, y, 256, 256, 0.5)
    np.testing.assert_allclose(encode(pixels[None])[0], features[chosen], atol=0.02, err_msg="x, y are of that tile")
    picture = imread(tmp_path / "out/a_heatmap.png")
    assert picture.shape[1] == 1400 and picture[..., :3].std() > 0.05


def test_a_slide_with_many_tiles_gets_a_prediction_and_no_heat_map(trained, make_slide, tmp_path):
    options = ("--model", trained, "--out", tmp_path / "out", "--heatmap-tiles", 2, "--mpp", 0.5, "--quiet")
    assert run("predict", make_slide("a.tif", mpp=None), *options).exit_code == 0
    assert "no heat map: more than 2 tiles" in pd.read_csv(tmp_path / "out/predictions.csv").loc[0, "warning"]
    assert not list((tmp_path / "out").glob("*heatmap*"))
    options = ("--model", trained, "--out", tmp_path / "out", "--mpp", 0.5, "--quiet", "--heatmap-tiles")
    count = pd.read_csv(tmp_path / "out/predictions.csv").loc[0, "tiles"]
    assert run("predict", tmp_path / "a.tif", *options, count).exit_code == 0
    assert (tmp_path / "out/a_heatmap.png").is_file()


def test_a_second_run_encodes_nothing_and_another_mpp_everything(trained, make_slide, tmp_path, encoder):
    path = make_slide("a.tif", size=768, mpp=None)
    result = run("predict", path, "--model", trained, "--out", tmp_path, "--quiet")
    assert result.exit_code == 2 and "does not say its resolution" in result.stderr
    options = ("--model", trained, "--out", tmp_path, "--heatmap-tiles", 0, "--quiet")
    assert run("predict", path, *options, "--mpp", 0.5).exit_code == 0
    first = sum(encoder)
    assert run("predict", path, *options, "--mpp", 0.5).exit_code == 0 and sum(encoder) == first > 0
    assert max(encoder) > 1, "a batch at a time"
    assert run("predict", path, *options, "--mpp", 0.25).exit_code == 0 and sum(encoder) > first
    other = make_slide("sub/a.tif", size=768, mpp=None, seed=1)  # as many bytes, and another slide
    most = max(path.stat().st_size, other.stat().st_size) + 1
    for slide in (path, other):
        slide.write_bytes(slide.read_bytes().ljust(most, b"\0"))
        first = sum(encoder)
        assert run("predict", slide, *options, "--mpp", 0.25).exit_code == 0 and sum(encoder) > first


def test_another_slide_under_the_same_name_and_of_the_same_size_is_encoded(trained, make_slide, tmp_path, encoder):
    path, other = make_slide("a.tif", size=768), make_slide("other.tif", size=768, seed=1)
    most = max(path.stat().st_size, other.stat().st_size) + 1
    options = ("--model", trained, "--out", tmp_path / "out", "--heatmap-tiles", 0, "--quiet")
    path.write_bytes(path.read_bytes().ljust(most, b"\0"))
    time = path.stat().st_mtime_ns
    assert run("predict", path, *options).exit_code == 0
    first = sum(encoder)
    path.write_bytes(other.read_bytes().ljust(most, b"\0"))
    os.utime(path, ns=(time, time))
    assert run("predict", path, *options).exit_code == 0 and sum(encoder) > first


@pytest.mark.parametrize("harm", ["cut", "empty", "text", "nan", "without coords"])
def test_a_damaged_bag_of_a_run_before_is_made_again(trained, make_slide, tmp_path, encoder, harm):
    path, bag = make_slide("a.tif", size=768), tmp_path / "bags/a.h5"
    options = ("--model", trained, "--out", tmp_path, "--heatmap-tiles", 0, "--quiet")
    assert run("predict", path, *options).exit_code == 0
    sound, first = bag.read_bytes(), sum(encoder)
    if harm in ("nan", "without coords"):
        with h5py.File(bag, "r+") as file:
            if harm == "nan":
                file["features"][0, 0] = np.nan
            else:
                del file["coords"]
    else:
        bag.write_bytes({"cut": sound[: len(sound) // 2], "empty": b"", "text": b"no bag"}[harm])
    result = run("predict", path, *options)
    assert result.exit_code == 0 and sum(encoder) > first, result.output
    assert bag.read_bytes() == sound


@pytest.mark.parametrize("raised", [RuntimeError("CUDA error"), MemoryError(), KeyError("x"), ZeroDivisionError()])
def test_whatever_a_slide_raises_is_its_failure_alone(trained, manifest, make_slide, tmp_path, monkeypatch, raised):
    good, bad, read = make_slide("a.tif", size=768), make_slide("b.tif", size=768), predict.read_slide

    def odd(predictor, path, *more):
        if path.stem in ("b", "c1-HE"):
            raise raised
        return read(predictor, path, *more)

    monkeypatch.setattr(predict, "read_slide", odd)
    monkeypatch.setattr(worklist, "read_slide", odd)
    result = run("predict", bad, good, "--model", trained, "--out", tmp_path / "out", "--quiet")
    assert (
        result.exit_code == 2
        and f"1 of 2 slides could not be read:\n  slide {bad}: {type(raised).__name__}" in result.stderr
    )
    assert len(pd.read_csv(tmp_path / "out/predictions.csv")) == 1
    path = manifest([("c1-HE", "HE", 1), ("c2-HE", "HE", 1)])
    assert run("prescreen", path, "--model", trained, "--out", tmp_path / "list.csv", "--quiet").exit_code == 1
    table = pd.read_csv(tmp_path / "list.csv")
    assert table["call"].isin(["stain", "wait"]).tolist() == [True, False]
    assert type(raised).__name__ in table["note"][1]


def test_a_worklist_names_no_folder_of_this_machine(trained, manifest, tmp_path, monkeypatch):
    path = manifest([("c1-HE", "HE", 1), ("c2-HE", "HE", 0), ("c3-HE", "HE", 0)])
    (tmp_path / "slides/c3-HE.tif").write_text("no slide")
    (tmp_path / "out").mkdir()
    for out in (tmp_path / "list.csv", tmp_path / "out/list.csv"):
        assert run("prescreen", path, "--model", trained, "--out", out, "--quiet").exit_code == 1
        for file in (out, out.with_suffix(".txt")):
            assert str(tmp_path) not in file.read_text()
        assert "slides/c2-HE.tif does not exist" in out.read_text()


def test_wrong_input_to_predict_exits_with_2(trained, make_slide, tmp_path):
    good, other = make_slide("a.tif", size=768), make_slide("sub/a.tif", size=768)
    for arguments, told in (
        ([good, "--model", tmp_path], "study.json: no such file"),
        ([good, other, "--model", trained], "two slides are called a"),
    ):
        result = run("predict", *arguments, "--out", tmp_path / "out", "--quiet")
        assert result.exit_code == 2 and told in result.stderr
    result = run("predict", tmp_path / "none.tif", good, "--model", trained, "--out", tmp_path / "out", "--quiet")
    assert result.exit_code == 2 and "1 of 2 slides could not be read" in result.stderr
    assert len(pd.read_csv(tmp_path / "out/predictions.csv")) == 1, "the others are done"


def test_a_folder_that_lacks_a_setting_is_refused(trained, tmp_path):
    for name in ("study.json", "probe.json"):
        (tmp_path / name).write_text((trained / name).read_text())
    about = json.loads((tmp_path / "study.json").read_text())
    (tmp_path / "study.json").write_text(json.dumps(about | {"tiles": {"size": 256}}))
    with pytest.raises(InputError, match=r"study\.json: tiles\.size: .*Delete probe\.json beside it"):
        load_predictor(tmp_path)


def test_the_encoder_is_that_of_the_study(trained, tmp_path, monkeypatch):
    shutil.copytree(trained, tmp_path / "m")
    about = json.loads((trained / "study.json").read_text())
    (tmp_path / "m/study.json").write_text(json.dumps(about | {"int8": "bags/int8"}))
    monkeypatch.setattr(predictor, "tile_encoder", lambda name, **options: options)
    assert load_predictor(tmp_path / "m").network["int8"] == "bags/int8"
    assert load_predictor(trained).network["int8"] is None

    def of_colours(folder, fold):
        model, record = load_fold(folder, fold)
        record["settings"]["input"]["encoder"] = "colour"
        return model, record

    assert not load_predictor(trained).colours
    monkeypatch.setattr(predictor, "load_fold", of_colours)
    assert load_predictor(trained).colours


def test_what_is_said_of_a_probability_names_the_classes(trained):
    assert "Probability of aberrant: " in caveats.of_numbers(load_predictor(trained))[0]
    assert "weighs both classes equally" in caveats.of_numbers(load_predictor(trained))[0]
    her2 = Marker(classes=["0", "1+", "2+", "3+"], positive_from="2+")
    named = {"classes": (her2.negative, her2.positive), "all_classes": tuple(her2.names)}
    told = caveats.of_numbers(replace(load_predictor(trained), **named))[0]
    assert "Probability of 2+ and above: " in told and "weighs the classes 0, 1+, 2+, 3+ equally" in told


def test_the_worklist_is_ranked_and_holds_every_he_slide(trained, manifest, tmp_path):
    rows = [("c1-HE", "HE", 1), ("c1-IHC", "P53", 0), ("c2-HE", "HE", 1), ("c3-HE", "HE", 0), ("c4-HE", "HE", 1)]
    path = manifest(rows)
    (tmp_path / "slides/c5-HE.tif").write_text("no slide")
    path.write_text(path.read_text() + "c5-HE,HE,slides/c5-HE.tif,c5,x\n")
    result = run("prescreen", path, "--model", trained, "--out", tmp_path / "list.csv", "--quiet")
    assert result.exit_code == 1, "two slides could not be read"
    table = pd.read_csv(tmp_path / "list.csv", dtype={"rank": "Int64"})
    assert list(table) == [
        "rank",
        "case_id",
        "slide_id",
        "probability",
        "low",
        "high",
        "call",
        "trained_on",
        "in_training",
        "note",
    ]
    assert table["rank"].tolist()[:3] == [1, 2, 3] and table["rank"][3:].isna().all()
    assert table["probability"][:3].is_monotonic_decreasing and table["probability"][3:].isna().all()
    assert set(table["slide_id"][:3]) == {"c1-HE", "c2-HE", "c4-HE"}
    assert table["slide_id"][3:].tolist() == ["c3-HE", "c5-HE"]
    assert "does not exist" in table["note"][3] and "cannot be read" in table["note"][4]
    summary = (tmp_path / "list.txt").read_text()
    assert summary in result.stdout
    for told in ("5 slides, 3 ranked, 2 could not be read", caveats.NOTICE, "measure again", "c5-HE:"):
        assert told in summary


def test_the_cut_of_the_worklist_is_the_mean_of_the_folds_thresholds(trained, manifest, tmp_path):
    path = manifest([(f"c{i}-HE", "HE", 1) for i in range(3)])
    predictions = pd.read_csv(trained / "predictions.csv")
    cut = float(expit(logit(triage.thresholds(predictions, [0.95])["threshold"]).mean()))
    result = run("prescreen", path, "--model", trained, "--out", tmp_path / "list.csv", "--quiet")
    assert result.exit_code == 0, result.output
    table = pd.read_csv(tmp_path / "list.csv")
    assert (table["call"] == np.where(table["probability"] >= cut, "stain", "wait")).all()
    assert f"{(table['call'] == 'stain').sum()} of 3 score at or above {cut:.2f}" in result.stdout
    found = triage.triage(predictions, [0.95]).set_index("measure")["value"]
    assert f"found {found['sensitivity']:.0%} (" in result.stdout and f"saved {found['saved']:.0%} (" in result.stdout
    positive = predictions.query("split == 'test'")["label"].sum()
    assert "to find 95% of aberrant cases" in result.stdout
    assert f"missed {found['missed']:.0f} of {positive}, " in result.stdout


def test_slides_are_called_by_their_mean_log_odds_and_their_own_mpp(trained, tmp_path, monkeypatch):
    model, given = load_predictor(trained), []
    cut = worklist._cross_validation(model)["threshold"]
    spread = {"a": [cut - 1, cut + 0.1, cut + 1], "b": [cut - 2, cut, cut + 1], "c": [cut - 1, cut - 1, cut - 1]}

    def read(model, path, name, bags, mpp):
        given.append(mpp)
        return predict.Reading(None, None, 256, 0.5, np.array(spread[name]), "0" * 64, "")

    monkeypatch.setattr(worklist, "read_slide", read)
    slides = pd.DataFrame({"slide_id": list("cab"), "case_id": "", "path": "x", "mpp": [0.25, np.nan, np.nan]})
    said, _ = worklist.prescreen(model, slides, tmp_path / "list.csv", progress=False)
    table = pd.read_csv(tmp_path / "list.csv")
    assert table[["slide_id", "call"]].to_numpy().tolist() == [["a", "stain"], ["b", "wait"], ["c", "wait"]]
    assert [one and one.mpp for one in given] == [0.25, None, None]
    assert "Staining only these would save 2 of 3 stains (67%)" in said


def test_a_certain_score_bounds_the_cut_and_a_fold_without_positives_stains_everybody(trained, tmp_path):
    model = replace(load_predictor(trained), folder=tmp_path)
    frame = pd.read_csv(trained / "predictions.csv")
    judged = (frame["split"] == "val") & (frame["label"] == 1)
    frame.assign(score=frame["score"].where(~judged, 1.0)).to_csv(tmp_path / "predictions.csv", index=False)
    assert worklist._cross_validation(model)["threshold"] == pytest.approx(logit(1 - 1e-6))
    frame.loc[judged & (frame["fold"] == 0), "label"] = 0
    frame.to_csv(tmp_path / "predictions.csv", index=False)
    seen = worklist._cross_validation(model)
    assert (seen["threshold"], seen["fewest"]) == (-np.inf, 0)


def test_no_ihc_file_is_opened_and_no_ihc_number_is_used(trained, manifest, tmp_path, monkeypatch):
    rows = [("c1-HE", "HE", 1), ("c1-IHC", "P53", 1), ("c2-HE", "HE", 1), ("c2-IHC", "P53", 1)]
    path = manifest(rows)
    opened, real = [], Slide.open.__func__
    monkeypatch.setattr(
        Slide, "open", classmethod(lambda cls, p, *more: (opened.append(str(p)), real(cls, p, *more))[1])
    )
    run("prescreen", path, "--model", trained, "--out", tmp_path / "a.csv", "--quiet")
    assert len(opened) == 2 and not [name for name in opened if "IHC" in name]

    blind = tmp_path / "blind"
    blind.mkdir()
    for file in trained.iterdir():
        (blind / file.name).write_bytes(file.read_bytes())
    for file in blind.glob("*.safetensors"):
        with safetensors.safe_open(file, framework="pt") as handle:
            notes = handle.metadata()
        tensors = safetensors.torch.load_file(file)
        for name in ("ihc_mean", "ihc_deviation"):
            tensors[name].fill_(7e8)
        safetensors.torch.save_file(tensors, file, metadata=notes)
    for file in tmp_path.glob("slides/*IHC*"):
        file.unlink()
    run("prescreen", path, "--model", blind, "--out", tmp_path / "b.csv", "--quiet")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_a_broken_manifest_is_told_all_at_once(trained, tmp_path):
    rows = ["a b,x.tif,HE,,c", "b,,HE,fast,c", "b,y.tif,HE,0.5,c", "d,z.tif,H&E,,c", "e,q.tif,P53,x,?"]
    (tmp_path / "m.csv").write_text("\n".join(["slide_id,path,stain,mpp,case_id", *rows]))
    result = run("prescreen", tmp_path / "m.csv", "--model", trained)
    assert result.exit_code == 2
    for told in (
        "5 problems", "row 2: slide_id 'a b'", "row 3: path is empty", "row 3: mpp 'fast'",
        "row 4: slide_id 'b' stands in row 3", "row 5: stain 'H&E': write 'HE'",
    ):  # fmt: skip
        assert told in result.stderr
    assert "row 6" not in result.stderr, "IHC rows are left alone"
    (tmp_path / "m.csv").write_text("slide,file\na,b\n")
    result = run("prescreen", tmp_path / "m.csv", "--model", trained)
    assert result.exit_code == 2 and "column 'slide_id' is missing" in result.stderr and "'path'" in result.stderr


@pytest.mark.parametrize("parted", [",", ";"])
def test_a_manifest_needs_no_more_than_slide_and_path(tmp_path, parted):
    (tmp_path / "m.csv").write_text("slide_id,path\n a , x.tif\nb,/far/y.tif\n".replace(",", parted))
    slides = worklist.read_worklist(tmp_path / "m.csv")
    assert [str(p) for p in slides["path"]] == [str(tmp_path.resolve() / "x.tif"), "/far/y.tif"]
    assert slides["case_id"].tolist() == ["", ""] and slides["mpp"].isna().all()


@pytest.mark.parametrize("name", ["Müller/Gewebe é.tif", "Ａ/x.tif"])
@pytest.mark.parametrize(("told", "kept"), [("NFD", "NFC"), ("NFC", "NFD")])
@pytest.mark.parametrize("absolute", [False, True])
def test_a_worklist_is_read_as_a_manifest_is(tmp_path, name, told, kept, absolute):
    path = tmp_path.resolve() / unicodedata.normalize(kept, name)
    path.parent.mkdir()
    path.touch()
    given = unicodedata.normalize(told, str(path) if absolute else name)
    for nothing in ("NA", "nan", "#N/A", "<NA>", "None", "n/a", ""):
        rows = f"a,{given},{nothing},{nothing},{nothing}\nb,x.tif,0.5,yes,c\n"
        (tmp_path / "m.csv").write_text(f"slide_id,path,mpp,mpp_override,case_id\n{rows}", encoding="utf-8")
        slides = worklist.read_worklist(tmp_path / "m.csv")
        assert slides["path"].iloc[0] == path and slides["case_id"].tolist() == ["", "c"]
        assert slides["mpp"].isna().tolist() == [True, False] and slides["mpp_override"].tolist() == [False, True]


@pytest.mark.parametrize("stain", ["", "NA", "nan"])
def test_a_row_of_a_worklist_without_its_stain_is_not_left_out_silently(tmp_path, stain):
    (tmp_path / "m.csv").write_text(f"slide_id,path,stain\na,x.tif,HE\nb,y.tif,{stain}\n")
    with pytest.raises(InputError, match=f"row 3: stain '{stain}': write 'HE' for H&E"):
        worklist.read_worklist(tmp_path / "m.csv")
    (tmp_path / "m.csv").write_text("slide_id,path\nNA,x.tif\n")
    with pytest.raises(InputError, match="row 2: slide_id 'NA' names nothing"):
        worklist.read_worklist(tmp_path / "m.csv")
