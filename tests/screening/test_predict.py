import json
import shutil
from dataclasses import replace

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
from matplotlib.image import imread
from scipy.special import expit, logit
from typer.testing import CliRunner

from hsa.bags import batches
from hsa.bags.bag import Bag, write_bag
from hsa.cli import app
from hsa.cohorts.cohort import Cohort
from hsa.encoders.encoder import TileEncoder
from hsa.errors import InputError
from hsa.models.checkpoints import load_fold
from hsa.screening import predict, triage, worklist
from hsa.slides.slide import Slide
from hsa.study.settings import Marker
from hsa.study.study import load
from hsa.training import fit

STUDY = """
name: tiny
title: Tiny
cohort: {kind: virtual, cases: 20, slide_px: 512, strength: 1.0, seed: 0}
markers: {P53: {negative: wild-type, positive: aberrant}}
model: {dim: 16, depth: 2, heads: 2, segment_lengths: [4, 16], dilated_ratios: [1, 2], head_hidden: 8}
methods:
  base: {title: Base, losses: [classification]}
  full: {title: Full, losses: [intra_modality, info_nce, classification]}
baseline: base
full: full
training: {epochs: 1, batch: 6, lr: 1.0e-3, warmup_epochs: 0, tiles_per_slide: 5}
evaluation: {folds: 3}
"""
CASES, WIDTH, DIM = 21, 6, 16


def encode(pixels):
    """Mean and deviation of each colour: features that differ between tiles."""
    values = pixels.astype(np.float32)
    return np.concatenate([values.mean((1, 2)), values.std((1, 2))], axis=1) / 20


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a trained method, as `hsa evaluate` leaves it."""
    home = tmp_path_factory.mktemp("study")
    (home / "tiny.yml").write_text(STUDY)
    study = load(home / "tiny.yml")
    rng = np.random.default_rng(0)
    rows, labels = [], {}
    for i in range(CASES):
        case, labels[f"C{i:02}"] = f"C{i:02}", i % 2
        for stain in ("HE", "P53"):
            names = {"patient_id": f"P{i}", "case_id": case, "slide_id": f"{case}_{stain}", "stain": stain}
            rows.append(names | {"path": "", "mpp": 0.5})
            coords = np.stack([np.arange(6) % 4, np.arange(6) // 4], 1) * 256
            values = rng.normal(6 + i % 2, 1, (6, WIDTH)).astype(np.float16)
            attrs = {"tile_px": 256, "tile_px_level0": 256, "stamp": "s"}
            write_bag(study.paths.bags / f"{names['slide_id']}.h5", Bag(values, coords, attrs))
    folder = home / "full"
    he, _ = fit.fit(
        study, Cohort(pd.DataFrame(rows), pd.DataFrame({"P53": labels})), "P53", "full", folder, progress=False
    )
    folds, parts = [], []
    for k, frame in he.groupby("fold"):
        vectors = frame.filter(regex=r"^v\d+$").to_numpy(float)
        probe = {
            "fold": int(k),
            "mean": vectors.mean(0),
            "scale": vectors.std(0) + 0.1,
            "coef": rng.normal(0, 0.3, DIM),
        }
        score = expit((vectors - probe["mean"]) / probe["scale"] @ probe["coef"] + 0.2 * k)
        folds.append({**{n: np.asarray(v).tolist() for n, v in probe.items()}, "intercept": 0.2 * k, "c": 1.0})
        parts.append(frame[["case_id", "patient_id", "fold", "split", "label"]].assign(score=score, pred=score > 0.5))
    predictions = pd.concat(parts).query("split != 'train'")
    predictions.to_csv(folder / "predictions.csv", index=False)
    about = {
        "study": "tiny",
        "marker": "P53",
        "method": "full",
        "classes": ["wild-type", "aberrant"],
        "prevalence": 0.48,
    }
    about |= {key: study.model_dump(mode="json")[key] for key in ("tiles", "encoder")}
    (folder / "study.json").write_text(json.dumps(about | {"title": "Tiny"}))
    (folder / "probe.json").write_text(json.dumps({"folds": folds}))
    for path in folder.glob("embeddings_*"):
        path.unlink()
    return folder


@pytest.fixture(autouse=True)
def encoder(monkeypatch):
    calls = []

    def make(name, size_px, threads=1, **options):
        def run(pixels):
            calls.append(len(pixels))
            return encode(pixels)

        return TileEncoder(name=name, dim=WIDTH, size_px=size_px, mpp=0.5, run=run)

    monkeypatch.setattr(predict, "tile_encoder", make)
    return calls


def run(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_a_prediction_is_the_mean_of_the_folds_log_odds(trained, make_slide, tmp_path):
    path = make_slide("a.tif")
    result = run("predict", path, "--model", trained, "--out", tmp_path / "out", "--quiet")
    assert result.exit_code == 0, result.output
    assert predict.NOTICE in result.stdout and predict.NOTICE in (tmp_path / "out/summary.txt").read_text()
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


def test_the_heat_map_says_what_each_tile_adds(trained, make_slide, tmp_path):
    path = make_slide("a.tif", covered=0.7)
    assert run("predict", path, "--model", trained, "--out", tmp_path / "out", "--quiet").exit_code == 0
    table = pd.read_csv(tmp_path / "out/a_heatmap.csv")
    assert list(table) == ["x", "y", "importance"] and len(table) > 4
    predictor = predict.load_predictor(trained)
    reading = predict.read_slide(predictor, path, "a", tmp_path / "out/bags")
    features, coords = reading.tiles
    chosen = int(table["importance"].abs().argmax())
    falls = []
    for score, mean in zip(predictor.scores, predictor.means, strict=True):
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
    with pytest.raises(InputError, match="Evaluate again"):
        predict.load_predictor(tmp_path)


def test_the_encoder_is_that_of_the_study(trained, tmp_path, monkeypatch):
    shutil.copytree(trained, tmp_path / "m")
    about = json.loads((trained / "study.json").read_text())
    (tmp_path / "m/study.json").write_text(json.dumps(about | {"int8": "bags/int8"}))
    monkeypatch.setattr(predict, "tile_encoder", lambda name, **options: options)
    assert predict.load_predictor(tmp_path / "m").network["int8"] == "bags/int8"
    assert predict.load_predictor(trained).network["int8"] is None

    def of_colours(folder, fold):
        model, record = load_fold(folder, fold)
        record["settings"]["input"]["encoder"] = "colour"
        return model, record

    assert not predict.load_predictor(trained).colours
    monkeypatch.setattr(predict, "load_fold", of_colours)
    assert predict.load_predictor(trained).colours


def manifest(tmp_path, make_slide, rows):
    """Write a manifest of (slide_id, stain, made?) rows."""
    for i, (name, _, made) in enumerate(rows):
        if made:
            make_slide(f"slides/{name}.tif", size=768, seed=i, covered=0.4 + 0.1 * i)
    frame = pd.DataFrame(rows, columns=["slide_id", "stain", "made"])
    frame["path"] = "slides/" + frame["slide_id"] + ".tif"
    frame["case_id"], frame["scanner"] = frame["slide_id"].str[:2], "x"
    frame.drop(columns="made").to_csv(tmp_path / "m.csv", index=False)
    return tmp_path / "m.csv"


def test_what_is_said_of_a_probability_names_the_classes(trained, tmp_path):
    assert "Probability of aberrant: " in predict.caveats(predict.load_predictor(trained))[0]
    assert "weighs both classes equally" in predict.caveats(predict.load_predictor(trained))[0]
    about = json.loads((trained / "study.json").read_text())
    her2 = Marker(classes=["0", "1+", "2+", "3+"], positive_from="2+")
    about |= {"classes": [her2.negative, her2.positive], "all_classes": her2.names}
    shutil.copytree(trained, tmp_path / "graded")
    (tmp_path / "graded/study.json").write_text(json.dumps(about))
    told = predict.caveats(predict.load_predictor(tmp_path / "graded"))[0]
    assert "Probability of 2+ and above: " in told and "weighs the classes 0, 1+, 2+, 3+ equally" in told


def test_the_worklist_is_ranked_and_holds_every_he_slide(trained, make_slide, tmp_path):
    rows = [("c1-HE", "HE", 1), ("c1-IHC", "P53", 0), ("c2-HE", "HE", 1), ("c3-HE", "HE", 0), ("c4-HE", "HE", 1)]
    path = manifest(tmp_path, make_slide, rows)
    (tmp_path / "slides/c5-HE.tif").write_text("no slide")
    path.write_text(path.read_text() + "c5-HE,HE,slides/c5-HE.tif,c5,x\n")
    result = run("prescreen", path, "--model", trained, "--out", tmp_path / "list.csv", "--quiet")
    assert result.exit_code == 1, "two slides could not be read"
    table = pd.read_csv(tmp_path / "list.csv", dtype={"rank": "Int64"})
    assert list(table) == ["rank", "case_id", "slide_id", "probability", "low", "high", "call", "note"]
    assert table["rank"].tolist()[:3] == [1, 2, 3] and table["rank"][3:].isna().all()
    assert table["probability"][:3].is_monotonic_decreasing and table["probability"][3:].isna().all()
    assert set(table["slide_id"][:3]) == {"c1-HE", "c2-HE", "c4-HE"}
    assert table["slide_id"][3:].tolist() == ["c3-HE", "c5-HE"]
    assert "does not exist" in table["note"][3] and "cannot be read" in table["note"][4]
    summary = (tmp_path / "list.txt").read_text()
    assert summary in result.stdout
    for told in ("5 slides, 3 ranked, 2 could not be read", predict.NOTICE, "measure again", "c5-HE:"):
        assert told in summary


def test_the_cut_of_the_worklist_is_the_mean_of_the_folds_thresholds(trained, make_slide, tmp_path):
    path = manifest(tmp_path, make_slide, [(f"c{i}-HE", "HE", 1) for i in range(3)])
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
    predictor, given = predict.load_predictor(trained), []
    cut = worklist._cross_validation(predictor)["threshold"]
    spread = {"a": [cut - 1, cut + 0.1, cut + 1], "b": [cut - 2, cut, cut + 1], "c": [cut - 1, cut - 1, cut - 1]}

    def read(predictor, path, name, bags, mpp):
        given.append(mpp)
        return predict.Reading(None, None, 256, 0.5, np.array(spread[name]), "")

    monkeypatch.setattr(worklist, "read_slide", read)
    slides = pd.DataFrame({"slide_id": list("cab"), "case_id": "", "path": "x", "mpp": [0.25, np.nan, np.nan]})
    said, _ = worklist.prescreen(predictor, slides, tmp_path / "list.csv", progress=False)
    table = pd.read_csv(tmp_path / "list.csv")
    assert table[["slide_id", "call"]].to_numpy().tolist() == [["a", "stain"], ["b", "wait"], ["c", "wait"]]
    assert given == [0.25, None, None]
    assert "Staining only these would save 2 of 3 stains (67%)" in said


def test_a_certain_score_bounds_the_cut_and_a_fold_without_positives_stains_everybody(trained, tmp_path):
    predictor = replace(predict.load_predictor(trained), folder=tmp_path)
    frame = pd.read_csv(trained / "predictions.csv")
    judged = (frame["split"] == "val") & (frame["label"] == 1)
    frame.assign(score=frame["score"].where(~judged, 1.0)).to_csv(tmp_path / "predictions.csv", index=False)
    assert worklist._cross_validation(predictor)["threshold"] == pytest.approx(logit(1 - 1e-6))
    frame[~judged | (frame["fold"] > 0)].to_csv(tmp_path / "predictions.csv", index=False)
    seen = worklist._cross_validation(predictor)
    assert (seen["threshold"], seen["fewest"]) == (-np.inf, 0)


def test_no_ihc_file_is_opened_and_no_ihc_number_is_used(trained, make_slide, tmp_path, monkeypatch):
    rows = [("c1-HE", "HE", 1), ("c1-IHC", "P53", 1), ("c2-HE", "HE", 1), ("c2-IHC", "P53", 1)]
    path = manifest(tmp_path, make_slide, rows)
    opened, real = [], Slide.open.__func__
    monkeypatch.setattr(
        Slide, "open", classmethod(lambda cls, p, mpp=None: (opened.append(str(p)), real(cls, p, mpp))[1])
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
