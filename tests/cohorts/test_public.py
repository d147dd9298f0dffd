"""Public cohorts: tiny stand-ins laid out as distributed, good and damaged."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

from hsa.cohorts import cohort, public
from hsa.cohorts.public import bcnb, convert, registry
from hsa.errors import InputError
from hsa.study.settings import Marker
from hsa.study.study import load

REPO = Path(__file__).parents[2]


def picture(path, side=16):
    path.parent.mkdir(parents=True, exist_ok=True)
    grey = np.linspace(60, 200, side * side, dtype=np.uint8).reshape(side, side)
    Image.fromarray(np.dstack([grey, grey // 2, grey])).save(path)


def acrobat(folder, skip=()):
    """Two archives unpacked side by side; number 0 stands in both, as in the data."""
    slides = ["train/0_HE_train", "train/0_KI67_train", "train/0_PGR_train", "valid/0_HE_val", "valid/0_ER_val"]
    for slide in slides:
        if slide not in skip:
            picture(folder / f"{slide}.tif")
    names = [f"{Path(slide).name}.ndpi" for slide in [*slides, "7_HE_train", "7_HER2_train"]]
    meta = {"anon_id": 0, "set": "x", "filename": names, "mpp_lvl_0": ["0.907", "0.91"] * 3 + ["0.91"]}
    pd.DataFrame(meta).to_csv(folder / "df_acrobat_meta.csv", index=False)


def clinical(ki67=("0.15", "10%-20%", ""), ids=("1", "2", "10")):
    return pd.DataFrame(
        {
            "Patient ID": list(ids),
            "Age(years)": "55",
            "ER": ["Positive", "Negative", "Positive"],
            "PR": ["Positive", "Negative", ""],
            "HER2": ["Negative", "Positive", "Negative"],
            "HER2 Expression": ["1+", "3+", "0"],
            "Ki67": list(ki67),
        }
    )


def biopsies(folder, table=None, skip=()):
    for name in ("1", "2", "10", "47594f5f-d952"):
        if name not in skip:
            picture(folder / "WSIs" / f"{name}.jpg")
    picture(folder / "paper_patches" / "1" / "1.jpg")
    (folder / "WSIs" / "1.json").write_text('{"positive": [], "negative": []}')
    (clinical() if table is None else table).to_csv(folder / "patient-clinical-data.csv", index=False)


def bci(folder):
    for stain in ("HE", "IHC"):
        for name in ("train/00000_train_1+", "train/00001_train_3+", "test/00000_test_0"):
            picture(folder / stain / f"{name}.png")


def mist(folder):
    for side in "AB":
        picture(folder / "Ki67" / "TrainValAB" / f"train{side}" / "67M2100642_15_18.jpg")
        picture(folder / "Ki67" / "TrainValAB" / f"val{side}" / "67M2100642_3_4.jpg")
        picture(folder / "HER2" / "TrainValAB" / f"train{side}" / "19M2102438_35_28.jpg")


MADE = {"acrobat": acrobat, "bcnb": biopsies, "bci": bci, "mist": mist}
HEAD = "patient_id,case_id,slide_id,stain,path,mpp,label_ER,label_PR,label_HER2,label_Ki-67"
WRITTEN = {
    "acrobat": """\
acrobat-train-0,acrobat-train-0,acrobat-train-0-HE,HE,train/0_HE_train.tif,0.907,,,,
acrobat-train-0,acrobat-train-0,acrobat-train-0-PGR,PR,train/0_PGR_train.tif,0.907,,,,
acrobat-train-0,acrobat-train-0,acrobat-train-0-KI67,Ki-67,train/0_KI67_train.tif,0.91,,,,
acrobat-val-0,acrobat-val-0,acrobat-val-0-HE,HE,valid/0_HE_val.tif,0.91,,,,
acrobat-val-0,acrobat-val-0,acrobat-val-0-ER,ER,valid/0_ER_val.tif,0.907,,,,
""",
    "bcnb": """\
bcnb-1,bcnb-1,bcnb-1-HE,HE,WSIs/1.jpg,0.5,1,1,0,15
bcnb-2,bcnb-2,bcnb-2-HE,HE,WSIs/2.jpg,0.5,0,0,1,10
bcnb-10,bcnb-10,bcnb-10-HE,HE,WSIs/10.jpg,0.5,1,,0,
""",
    "bci": """\
bci-test-00000,bci-test-00000,bci-test-00000-HE,HE,HE/test/00000_test_0.png,0.46,,,0,
bci-test-00000,bci-test-00000,bci-test-00000-HER2,HER2,IHC/test/00000_test_0.png,0.46,,,0,
bci-train-00000,bci-train-00000,bci-train-00000-HE,HE,HE/train/00000_train_1+.png,0.46,,,1+,
bci-train-00000,bci-train-00000,bci-train-00000-HER2,HER2,IHC/train/00000_train_1+.png,0.46,,,1+,
bci-train-00001,bci-train-00001,bci-train-00001-HE,HE,HE/train/00001_train_3+.png,0.46,,,3+,
bci-train-00001,bci-train-00001,bci-train-00001-HER2,HER2,IHC/train/00001_train_3+.png,0.46,,,3+,
""",
    "mist": """\
mist-19M2102438,mist-HER2-19M2102438_35_28,mist-HER2-19M2102438_35_28-HE,HE,HER2/TrainValAB/trainA/19M2102438_35_28.jpg,0.5,,,,
mist-19M2102438,mist-HER2-19M2102438_35_28,mist-HER2-19M2102438_35_28-IHC,HER2,HER2/TrainValAB/trainB/19M2102438_35_28.jpg,0.5,,,,
mist-67M2100642,mist-Ki67-67M2100642_15_18,mist-Ki67-67M2100642_15_18-HE,HE,Ki67/TrainValAB/trainA/67M2100642_15_18.jpg,0.5,,,,
mist-67M2100642,mist-Ki67-67M2100642_15_18,mist-Ki67-67M2100642_15_18-IHC,Ki-67,Ki67/TrainValAB/trainB/67M2100642_15_18.jpg,0.5,,,,
mist-67M2100642,mist-Ki67-67M2100642_3_4,mist-Ki67-67M2100642_3_4-HE,HE,Ki67/TrainValAB/valA/67M2100642_3_4.jpg,0.5,,,,
mist-67M2100642,mist-Ki67-67M2100642_3_4,mist-Ki67-67M2100642_3_4-IHC,Ki-67,Ki67/TrainValAB/valB/67M2100642_3_4.jpg,0.5,,,,
""",
}


@pytest.mark.parametrize("name", MADE)
def test_manifest_as_written(name, tmp_path):
    MADE[name](tmp_path)
    written = public.import_cohort(name, tmp_path, tmp_path)
    assert written == tmp_path / "manifest.csv"
    assert written.read_text() == f"{HEAD}\n{WRITTEN[name]}"


@pytest.mark.parametrize("name", MADE)
def test_manifest_passes_the_checks_of_the_cohort(name, tmp_path):
    MADE[name](tmp_path)
    markers = {
        "HER2": Marker(classes=["0", "1+", "2+", "3+"]) if name == "bci" else Marker(),
        "Ki-67": Marker(cutoff=14.0),
    }
    read = cohort.read_manifest(public.import_cohort(name, tmp_path, tmp_path), markers)
    assert all(Path(path).is_file() for path in read.slides["path"])
    labels = read.labels.dropna(how="all")
    assert labels["HER2"].tolist() == {"bcnb": [0, 0, 1], "bci": [0, 1, 3]}.get(name, [])
    assert labels["Ki-67"].dropna().tolist() == {"bcnb": [1, 0]}.get(name, [])


# What each does to a good folder, and what the error must say.
DAMAGES = {
    "acrobat: no H&E": (lambda folder: (folder / "train/0_HE_train.tif").unlink(), "0_HE_train.tif is missing"),
    "acrobat: listed IHC not there": (lambda folder: (folder / "train/0_PGR_train.tif").unlink(), "0_PGR_train.tif"),
    "acrobat: H&E alone": (lambda folder: (folder / "valid/0_ER_val.tif").unlink(), "0_HE_val.tif has no IHC slide"),
    "acrobat: unknown stain": (
        lambda folder: picture(folder / "0_CD3_train.tif"),
        "unknown stain 'CD3'. Known: HE, ER",
    ),
    "acrobat: odd name": (lambda folder: picture(folder / "scan.tif"), "scan.tif: the name is not NUMBER_STAIN_PART"),
    "acrobat: twice": (
        lambda folder: picture(folder / "x/0_ER_val.tif"),
        "x/0_ER_val.tif: the same slide as valid/0_ER",
    ),
    "acrobat: not listed": (
        lambda folder: picture(folder / "train/0_HER2_train.tif"),
        "0_HER2_train.tif is not in df_",
    ),
    "acrobat: no table": (lambda folder: (folder / "df_acrobat_meta.csv").unlink(), "df_acrobat_meta.csv is missing"),
    "acrobat: no column": (
        lambda folder: (folder / "df_acrobat_meta.csv").write_text("filename,mpp\n0_HE_train.tif,1\n"),
        "column 'mpp_lvl_0' is missing, found filename, mpp",
    ),
    "acrobat: no number": (
        lambda folder: (folder / "df_acrobat_meta.csv").write_text("filename,mpp_lvl_0\n0_HE_train.tif,\n"),
        "mpp_lvl_0 of 0_HE_train is '', not a number",
    ),
    "bcnb: no slide": (
        lambda folder: (folder / "WSIs/2.jpg").unlink(),
        "WSIs/2.jpg is missing, the table has patient 2",
    ),
    "bcnb: no row": (lambda folder: picture(folder / "WSIs/3.jpg"), "WSIs/3.jpg has no row in the table"),
    "bcnb: slide twice": (
        lambda folder: picture(folder / "x/WSIs/2.jpg"),
        "x/WSIs/2.jpg: the same slide as WSIs/2.jpg",
    ),
    "bcnb: not a JPEG": (lambda folder: (folder / "WSIs/2.jpg").write_text("sorry"), "2.jpg is not a readable JPEG"),
    "bcnb: no table": (
        lambda folder: (folder / f"{bcnb.TABLE}.csv").unlink(),
        "patient-clinical-data.xlsx (or .csv)",
    ),
    "bcnb: no column": (
        lambda folder: clinical().drop(columns="Ki67").to_csv(folder / f"{bcnb.TABLE}.csv", index=False),
        "column 'Ki67' is missing, found Patient ID, Age",
    ),
    "bcnb: patient twice": (
        lambda folder: clinical(ids=("1", "1", "10")).to_csv(folder / f"{bcnb.TABLE}.csv", index=False),
        "row 3: Patient ID 1 stands in more than one row",
    ),
    "bcnb: odd status": (
        lambda folder: clinical().replace("Negative", "neg.").to_csv(folder / f"{bcnb.TABLE}.csv", index=False),
        "row 3: ER 'neg.' is not Positive or Negative",
    ),
    "bcnb: odd index": (
        lambda folder: clinical(ki67=("15", "some", "")).to_csv(folder / f"{bcnb.TABLE}.csv", index=False),
        "row 2: Ki67 '15' is more than 100 %",
    ),
    "bci: no partner": (
        lambda folder: (folder / "IHC/train/00001_train_3+.png").unlink(),
        "HE/train/00001_train_3+.png: its IHC partner is missing",
    ),
    "bci: unknown score": (
        lambda folder: picture(folder / "HE/test/00002_test_4+.png"),
        "HE/test/00002_test_4+.png: unknown HER2 score '4+'. Known: 0, 1+, 2+, 3+.",
    ),
    "bci: scores differ": (
        lambda folder: (folder / "IHC/test/00000_test_0.png").rename(folder / "IHC/test/00000_test_2+.png"),
        "HE/test/00000_test_0.png: score 0, its IHC partner 2+",
    ),
    "bci: twice": (
        lambda folder: picture(folder / "HE/train/00000_train_2+.png"),
        "the same patch as HE/train/00000_tr",
    ),
    "bci: elsewhere": (lambda folder: picture(folder / "preview.png"), "preview.png: not below HE/ or IHC/"),
    "mist: no partner": (
        lambda folder: (folder / "HER2/TrainValAB/trainA/19M2102438_35_28.jpg").unlink(),
        "HER2/TrainValAB/trainB/19M2102438_35_28.jpg: its H&E partner is missing",
    ),
    "mist: unknown stain": (
        lambda folder: picture(folder / "CD8/TrainValAB/trainA/1M2_1_1.jpg"),
        "unknown stain 'CD8'. Known: ER, PR, HER2, Ki67.",
    ),
    "mist: no slide in the name": (
        lambda folder: picture(folder / "ER/TrainValAB/trainA/0001.jpg"),
        "the name is not SLIDE_ROW_COLUMN, so its patient is unknown",
    ),
    "mist: twice": (
        lambda folder: picture(folder / "Ki67/TrainValAB/trainA/67M2100642_3_4.jpg"),
        "valA/67M2100642_3_4.jpg: the same patch as Ki67/TrainValAB/trainA",
    ),
    "mist: elsewhere": (lambda folder: picture(folder / "ER/a.jpg"), "ER/a.jpg: not in STAIN/TrainValAB"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_explained(name, tmp_path):
    which = name.partition(":")[0]
    MADE[which](tmp_path)
    damage, told = DAMAGES[name]
    damage(tmp_path)
    with pytest.raises(InputError) as caught:
        public.import_cohort(which, tmp_path, tmp_path)
    message = str(caught.value)
    assert told in message
    assert registry.COHORTS[which].url in message and registry.COHORTS[which].layout.splitlines()[0] in message
    assert not (tmp_path / "manifest.csv").exists()


def test_every_problem_is_listed_at_once(tmp_path):
    biopsies(tmp_path, clinical(ki67=("15", "some", "0.3")), skip=("10",))
    with pytest.raises(InputError, match="3 problems with the data of bcnb") as caught:
        public.import_cohort("bcnb", tmp_path, tmp_path)
    assert all(text in str(caught.value) for text in ("'15'", "'some'", "WSIs/10.jpg is missing"))


@pytest.mark.parametrize("name", MADE)
def test_an_empty_or_absent_folder_says_where_to_ask(name, tmp_path):
    for folder, told in ((tmp_path, "no (slides|patches) such as"), (tmp_path / "none", "no such folder")):
        with pytest.raises(InputError, match=told) as caught:
            public.import_cohort(name, folder, tmp_path)
        assert f"To get the data: {registry.COHORTS[name].access}" in str(caught.value)


def test_half_of_acrobat_may_be_unpacked(tmp_path):
    acrobat(tmp_path, skip=["train/0_HE_train", "train/0_KI67_train", "train/0_PGR_train"])
    frame = pd.read_csv(public.import_cohort("acrobat", tmp_path, tmp_path))
    assert set(frame["case_id"]) == {"acrobat-val-0"}


def test_published_checksums_are_checked(tmp_path, monkeypatch):
    biopsies(tmp_path)
    right = hashlib.sha256((tmp_path / "WSIs" / "1.jpg").read_bytes()).hexdigest()
    for sums in ({"1.jpg": f"sha256:{right}", "gone.zip": "md5:00"}, {"2.jpg": "sha256:00"}):
        entry = replace(registry.COHORTS["bcnb"], checksums=sums)
        monkeypatch.setitem(registry.COHORTS, "bcnb", entry)
        if "1.jpg" in sums:
            # The two stand-ins have the same pixels, so 1.jpg must not pass by accident.
            (tmp_path / "WSIs" / "2.jpg").write_bytes((tmp_path / "WSIs" / "2.jpg").read_bytes() + b"\0")
            assert public.import_cohort("bcnb", tmp_path, tmp_path).is_file()
        else:
            with pytest.raises(InputError, match=r"WSIs/2.jpg: sha256 is [0-9a-f]{64}, published is 00"):
                public.import_cohort("bcnb", tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("cell", "percent"),
    [
        ("0.15", 15),
        ("15%", 15),
        (" 7.5 % ", 7.5),
        ("10%-20%", 10),
        ("10-20%", 10),
        (">50%", 50),
        ("＞50％", 50),
        ("<14%", 0),
        ("＜5%", 0),
        ("0", 0),
        ("1", 100),
        ("0.3", 30),
        ("", None),
    ],
)
def test_ki67_in_percent(cell, percent):
    assert bcnb.ki67_percent(cell) == percent


@pytest.mark.parametrize("cell", ["15", "high", "150%", "-3%", "10%-", "nan"])
def test_ki67_that_is_ambiguous_is_refused(cell):
    with pytest.raises(ValueError, match=r"%|share"):
        bcnb.ki67_percent(cell)


def test_workbook_reads_as_the_csv(tmp_path):
    pytest.importorskip("openpyxl")
    biopsies(tmp_path)
    table = clinical(ki67=(0.15, "10%-20%", None), ids=(1, 2, 10))
    (tmp_path / f"{bcnb.TABLE}.csv").unlink()
    table.to_excel(tmp_path / f"{bcnb.TABLE}.xlsx", index=False)
    assert public.import_cohort("bcnb", tmp_path, tmp_path).read_text() == f"{HEAD}\n{WRITTEN['bcnb']}"


def test_workbook_without_openpyxl_says_what_to_type(tmp_path, monkeypatch):
    biopsies(tmp_path)
    (tmp_path / f"{bcnb.TABLE}.csv").rename(tmp_path / f"{bcnb.TABLE}.xlsx")
    monkeypatch.setitem(__import__("sys").modules, "openpyxl", None)
    with pytest.raises(InputError, match=r"pip install 'hsa\[public\]'.*\.csv beside it"):
        public.import_cohort("bcnb", tmp_path, tmp_path)


def test_large_jpegs_are_refused_until_converted(tmp_path, monkeypatch):
    from hsa.slides.slide import Slide

    biopsies(tmp_path)
    picture(tmp_path / "WSIs" / "2.jpg", side=700)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)
    with pytest.raises(InputError, match=r"WSIs/2.jpg and 0 more have too many pixels.*hsa cohort convert"):
        public.import_cohort("bcnb", tmp_path, tmp_path)
    assert list(public.convert_large(tmp_path)) == [tmp_path / "WSIs" / "2.tif"]
    assert list(public.convert_large(tmp_path)) == []
    frame = pd.read_csv(public.import_cohort("bcnb", tmp_path, tmp_path), index_col="slide_id")
    assert frame["path"].tolist() == ["WSIs/1.jpg", "WSIs/2.tif", "WSIs/10.jpg"]
    with Slide.open(tmp_path / "WSIs" / "2.tif", frame.loc["bcnb-2-HE", "mpp"]) as slide:
        assert slide.size == (700, 700) and slide.mpp == pytest.approx(0.5, rel=1e-3)
        pixels = slide.read(0, 0, 350, 350, 1.0)
    with tifffile.TiffFile(tmp_path / "WSIs" / "2.tif") as tiff:
        assert [page.shape[0] for page in tiff.pages] == [700, 350]
        assert [page.resolution[0] for page in tiff.pages] == pytest.approx([20_000, 10_000], rel=1e-3)
    truth = np.linspace(60, 200, 700 * 700, dtype=np.uint8).reshape(350, 2, 350, 2).mean((1, 3))
    assert np.abs(pixels[..., 0] - truth).mean() < 3
    (tmp_path / "WSIs" / "2.tif").unlink()
    assert len(list(public.convert_large(tmp_path, 0.25))) == 1
    with Slide.open(tmp_path / "WSIs" / "2.tif") as slide:
        assert slide.mpp == pytest.approx(0.25, rel=1e-3)
    quad = np.repeat([[[1], [2]], [[2], [2]]], 3, axis=2).astype(np.uint8)
    assert convert._half(quad).tolist() == [[[2, 2, 2]]], "rounded, not cut off"
    assert convert._half(np.zeros((5, 3, 3), np.uint8)).shape == (2, 1, 3)
    with pytest.raises(InputError, match="700 x 700 px, more than 489999"):
        convert.jpeg_to_tiff(tmp_path / "WSIs" / "2.jpg", tmp_path / "x.tif", 0.5, ceiling=700**2 - 1)


def test_a_jpeg_cut_short_is_not_converted(tmp_path, monkeypatch):
    biopsies(tmp_path)
    picture(tmp_path / "WSIs" / "1.jpg", side=200)
    whole = (tmp_path / "WSIs" / "1.jpg").read_bytes()
    (tmp_path / "WSIs" / "1.jpg").write_bytes(whole[:-40])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(InputError, match="cut short"):
        list(public.convert_large(tmp_path))
    assert not (tmp_path / "WSIs" / "1.tif").exists()


def test_slides_must_lie_below_the_manifest_or_root(tmp_path):
    bci(tmp_path / "data")
    with pytest.raises(InputError, match=r"lies outside .*cohort\.root"):
        public.import_cohort("bci", tmp_path / "data", tmp_path / "elsewhere")
    written = public.import_cohort("bci", tmp_path / "data", tmp_path / "elsewhere", root=tmp_path)
    assert pd.read_csv(written)["path"][0] == "data/HE/test/00000_test_0.png"


@pytest.mark.parametrize("name", MADE)
def test_mpp_may_be_given(name, tmp_path):
    MADE[name](tmp_path)
    (tmp_path / "df_acrobat_meta.csv").unlink(missing_ok=True)
    frame = pd.read_csv(public.import_cohort(name, tmp_path, tmp_path, mpp=0.92))
    assert (frame["mpp"] == 0.92).all()


def joined(tmp_path):
    acrobat(tmp_path / "a")
    biopsies(tmp_path / "b")
    parts = [public.import_cohort(n, tmp_path / f, tmp_path / f) for n, f in (("acrobat", "a"), ("bcnb", "b"))]
    return parts, public.join_manifests(parts, tmp_path / "both.csv")


@pytest.mark.parametrize("mpp", [0.0, -1.0, float("nan"), 250.0])
def test_an_mpp_that_is_none_is_refused(tmp_path, mpp):
    with pytest.raises(InputError, match="microns per pixel"):
        public.import_cohort("mist", tmp_path, tmp_path, mpp=mpp)


def test_pairs_and_labels_are_joined(tmp_path):
    _, out = joined(tmp_path)
    lines = out.read_text().splitlines()
    assert lines[0] == HEAD and len(lines) == 9
    assert lines[1].split(",")[4] == "a/train/0_HE_train.tif" and lines[-1].split(",")[4] == "b/WSIs/10.jpg"
    cases = cohort.read_manifest(out, {"Ki-67": Marker(cutoff=14.0)}).cases("Ki-67").set_index("case_id")
    assert cases["ihc"].to_dict() == {"acrobat-train-0": "acrobat-train-0-KI67", "bcnb-1": "", "bcnb-2": ""}
    assert cases["label"].to_dict() == {"acrobat-train-0": -1, "bcnb-1": 1, "bcnb-2": 0}


def test_manifests_of_one_root_are_joined_below_it(tmp_path):
    (tmp_path / "data").mkdir()
    acrobat(tmp_path / "data")
    part = public.import_cohort("acrobat", tmp_path / "data", tmp_path / "lists", root=tmp_path)
    out = public.join_manifests([part], tmp_path / "lists" / "all.csv", root=tmp_path)
    assert pd.read_csv(out)["path"].tolist() == pd.read_csv(part)["path"].tolist()


def test_the_study_learns_from_pairs_and_is_tested_on_labels(tmp_path):
    rows = []
    for i in range(40):
        name, stains = ("acrobat-train-", ["HE", "Ki-67"]) if i < 20 else ("bcnb-", ["HE"])
        label = "" if i < 20 else str(5 + 20 * (i % 2))
        for stain in stains:
            (tmp_path / f"{name}{i}-{stain}.tif").touch()
            row = [f"{name}{i}", f"{name}{i}", f"{name}{i}-{stain}", stain, f"{name}{i}-{stain}.tif", "1.0", label]
            rows.append(row)
    pd.DataFrame(rows, columns=[*HEAD.split(",")[:6], "label_Ki-67"]).to_csv(tmp_path / "m.csv", index=False)
    study = load(REPO / "studies/acrobat-bcnb.yml", changes={"cohort.manifest": str(tmp_path / "m.csv")})
    table = cohort.fold_table(study, cohort.load(study), "Ki-67")
    for split, source in (("pairs", "acrobat"), ("train", "bcnb")):
        assert set(table.loc[table["split"] == split, "case_id"].str.partition("-")[0]) == {source}
    tested = table[table["split"] == "test"]
    assert len(tested) == 40 and tested["case_id"].is_unique
    assert tested.groupby("label")["case_id"].count().to_dict() == {-1: 20, 0: 10, 1: 10}


def test_what_cannot_be_joined_is_explained(tmp_path):
    (first, second), _ = joined(tmp_path)
    with pytest.raises(InputError, match=r"slide_id 'bcnb-1-HE' stands in .*Prefix"):
        copy = second.with_name("copy.csv")
        copy.write_text(second.read_text())
        public.join_manifests([second, copy], tmp_path / "x.csv")
    second.write_text("case_id,fold\n")
    with pytest.raises(InputError, match=r"2 problems:[^$]*none.csv: no such manifest[^$]*column patient_id"):
        public.join_manifests([first, tmp_path / "none.csv", second], tmp_path / "x.csv")
    pd.read_csv(first, dtype=str, keep_default_na=False).assign(fold="0").to_csv(first, index=False)
    with pytest.raises(InputError, match="gives folds"):
        public.join_manifests([first], tmp_path / "x.csv")
    assert not (tmp_path / "x.csv").exists()


def own(folder, name, ids, **more):
    """Write a manifest of one's own, with a slide file a row."""
    folder.mkdir(exist_ok=True)
    for one in ids:
        (folder / f"{one}.tif").touch()
    frame = pd.DataFrame({"patient_id": ids, "case_id": ids, "slide_id": ids, "stain": "HE"})
    frame = frame.assign(path=[f"{one}.tif" for one in ids], label_ER="1", **more)
    frame.to_csv(folder / name, index=False)
    return folder / name


def test_manifests_of_ones_own_are_joined_with_all_their_columns(tmp_path):
    first = own(tmp_path / "a", "m.csv", ["a1", "a2"], mpp=["0.5", "NA"], mpp_override=["1", ""], site="north")
    second = own(tmp_path / "b", "m.csv", ["b1"])
    found = pd.read_csv(public.join_manifests([first, second], tmp_path / "x.csv"), dtype=str, keep_default_na=False)
    assert found["path"].tolist() == ["a/a1.tif", "a/a2.tif", "b/b1.tif"]
    assert found["mpp"].tolist() == ["0.5", "", ""] and found["mpp_override"].tolist() == ["1", "", ""]
    assert found["site"].tolist() == ["north", "north", ""]


def test_slides_that_are_not_there_and_inputs_that_are_outputs_are_told_before_anything_is_written(tmp_path):
    first, second = own(tmp_path / "a", "m.csv", ["a1", "a2"]), own(tmp_path / "b", "m.csv", ["b1", "007"])
    out, before = tmp_path / "x.csv", first.read_text()
    for parts, told in (
        ([first, first], "m.csv: given twice. Name each manifest once"),
        ([], "no manifests given"),
        ([first, tmp_path], "no such manifest. Make it"),
    ):
        with pytest.raises(InputError, match=told):
            public.join_manifests(parts, out)
    with pytest.raises(InputError, match=r"to be joined, and to be written .*Give another name"):
        public.join_manifests([first, second], first)
    third = own(tmp_path / "c", "m.csv", ["7"])
    with pytest.raises(InputError, match=r"'007' \(row 3 of .*b/m.csv\), '7' \(row 2 of .*c/m.csv\): equal as numbers"):
        public.join_manifests([second, third], out)
    (tmp_path / "a" / "a2.tif").unlink()
    with pytest.raises(InputError, match=r"1 problem:\n  .*a/m.csv, row 3: no file 'a2.tif' below .*a. Mend the path"):
        public.join_manifests([first, second], out)
    assert not out.exists() and first.read_text() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]


def test_summary_counts_cases_slides_and_labels(tmp_path):
    _, out = joined(tmp_path)
    assert public.summary(out).splitlines() == [
        "5 patients, 5 cases, 8 slides: 5 HE, 1 PR, 1 Ki-67, 1 ER",
        "ER: 3 labels, 1 x 0, 2 x 1",
        "PR: 2 labels, 1 x 0, 1 x 1",
        "HER2: 3 labels, 2 x 0, 1 x 1",
        "Ki-67: 2 labels, 1 x 10, 1 x 15",
    ]


def test_registry_is_complete_and_the_table_shows_it():
    assert list(public.COHORTS) == ["acrobat", "bcnb", "bci", "mist"]
    rows, told = public.table().splitlines(), public.facts()
    assert {row.count("|") for row in rows} == {6} and len(rows) == 6
    for entry, row in zip(public.COHORTS.values(), rows[2:], strict=True):
        for value in (entry.url, entry.licence, entry.size, entry.access, entry.holds):
            assert value and "|" not in value and value in row
        assert entry.layout in told and entry.citation in told and entry.mpp_source in told
        assert all(unknown in told for unknown in entry.unconfirmed)
    with pytest.raises(InputError, match=r"no public cohort 'acrobad' \(did you mean 'acrobat'\?\)"):
        public.import_cohort("acrobad", ".", ".")


@pytest.mark.parametrize(
    ("name", "marker", "kind"),
    [
        ("acrobat-bcnb", "Ki-67", {"cutoffs": [14], "names": ["low", "high"]}),
        ("mist", "Ki-67", {"cutoffs": [14], "names": ["low", "high"]}),
        ("bci", "HER2", {"names": ["0", "1+", "2+", "3+"], "first_positive": 3}),
    ],
)
def test_studies_load(name, marker, kind):
    study = load(REPO / "studies" / f"{name}.yml")
    assert list(study.markers) == [marker]
    assert {key: getattr(study.markers[marker], key) for key in kind} == kind
    assert study.cohort.kind == "manifest" and not study.training.epochs < 1
