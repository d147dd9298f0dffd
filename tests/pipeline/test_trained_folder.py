"""What `hsa train` leaves in a method's folder, and that what a message tells to do puts a damaged one right."""

import json
import re
import shutil

import pytest

from hsa.bags.bag import read_bag, write_bag
from hsa.errors import InputError
from hsa.evaluation.predictions import read_predictions
from hsa.evaluation.scoring import fold_score
from hsa.pipeline import steps
from hsa.pipeline.steps import fit
from hsa.screening import caveats
from hsa.screening.predictor import load_predictor


@pytest.fixture
def train(tiny_study, tiny_cohort, monkeypatch):
    """Return a function that takes the step, and the folder that it fills."""
    monkeypatch.setattr(fit, "encoded", lambda *a: tiny_cohort)
    for number, slide in enumerate(tiny_cohort.slides["slide_id"]):
        path = tiny_study.paths.bags / f"{slide}.h5"
        bag = read_bag(path)
        bag.attrs["source_sha256"] = f"{number:064x}"
        write_bag(path, bag)

    def run():
        steps.train(tiny_study, "P53", "mean", progress=False)
        return tiny_study.at(3).paths.method("P53", "mean")

    return run


def test_a_trained_folder_tells_what_it_is_made_of_and_what_it_has_seen(train):
    predictor = load_predictor(train())
    assert caveats.trained_on(predictor) == "simulated tissue" and predictor.origin.cases == 21
    assert caveats.exposure(predictor, f"{0:064x}").column == "2 of 3 folds"
    assert caveats.exposure(predictor, f"{1:064x}").column == "no", "an IHC slide"
    assert len(predictor.seen.slides) == 21 and predictor.seen.unknown == 0


def test_the_record_of_an_older_folder_is_made_as_the_caveat_says(train):
    folder = train()
    about = json.loads((folder / "study.json").read_text())
    del about["cohort"]
    (folder / "study.json").write_text(json.dumps(about))
    (folder / "seen.json").unlink()
    old = load_predictor(folder)
    for told in (*caveats.of_origin(old), *caveats.of_training(old)):
        assert "delete made.json and probe.json there and run `hsa train`" in told
    weights = (folder / "fold0.safetensors").stat().st_mtime_ns
    for name in ("made.json", "probe.json"):
        (folder / name).unlink()
    again = load_predictor(train())
    assert again.origin.kind == "virtual" and len(again.seen.slides) == 21
    assert (folder / "fold0.safetensors").stat().st_mtime_ns == weights, "folds are kept"


@pytest.mark.parametrize(
    ("name", "text", "read"),
    [
        ("probe.json", '{"folds": [null]}', lambda folder: fold_score(folder, 0)),
        ("study.json", "[]", load_predictor),
        ("seen.json", "{}", load_predictor),
        ("predictions.csv", "case_id\n1\n", read_predictions),
        ("fold1.json", "{}", load_predictor),
        ("fold1.safetensors", "", load_predictor),
    ],
)
def test_a_damaged_file_is_put_right_by_what_the_message_tells(train, tmp_path, name, text, read):
    folder = train()
    whole = shutil.copytree(folder, tmp_path / "whole")
    (folder / name).write_text(text)
    with pytest.raises(InputError) as told:
        read(folder)
    message = str(told.value)
    assert name in message and "run `hsa train`" in message
    remedy = message[message.index("Delete ") : message.index("run `hsa train`")]
    named = re.findall(r"[a-z0-9]+\.(?:json|safetensors|csv)", remedy)
    if "Delete this file" in remedy or "Delete it " in remedy:
        named.append(name)
    for file in named:
        (folder / file).unlink()
    train()
    read(folder)
    load_predictor(folder)
    assert (folder / name).read_bytes() == (whole / name).read_bytes()
