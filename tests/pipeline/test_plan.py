import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from hsa.bags.bag import read_bag
from hsa.bags.batches import Batch
from hsa.errors import InputError
from hsa.files import REPOSITORY
from hsa.models import attention
from hsa.models.model import SlideModel
from hsa.pipeline.costs import activation_bytes, forward_flops, measure_step, saved_bytes
from hsa.pipeline.plan import describe, plan
from hsa.study.settings import Candidate, Model, Tuning
from hsa.study.study import load
from hsa.training import fit

SMALL = Model(dim=64, depth=1, heads=4, mlp_ratio=2.0, segment_lengths=[8, 32], dilated_ratios=[1, 2])
LONG = Model(
    dim=96, depth=3, heads=8, mlp_ratio=4.0, segment_lengths=[128, 300, 4096], dilated_ratios=[1, 2, 16], layer=3
)


def batch(bags, tiles, width):
    side = math.ceil(math.sqrt(tiles))
    coords = torch.stack([torch.arange(tiles) % side, torch.arange(tiles) // side], 1).expand(bags, -1, -1) * 256
    return Batch(torch.ones(bags, tiles, width), coords, torch.ones(bags, tiles, dtype=torch.bool))


@pytest.mark.parametrize(("model", "bags", "tiles"), [(SMALL, 3, 13), (LONG, 2, 700)])
@pytest.mark.parametrize("encoder", ["longnet", "abmil"])
def test_arithmetic_is_what_torch_counts(encoder, model, bags, tiles, monkeypatch):
    monkeypatch.setattr(attention, "PLAIN_SCORES", 2**40)  # the counter does not know the CPU's fused kernel
    network = SlideModel(24, encoder, model).eval()
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network.encoder(*batch(bags, tiles, 24))
    assert counter.get_total_flops() == bags * forward_flops(encoder, 24, model, tiles)
    assert forward_flops("mean", 24, model, tiles) == 0


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize(("model", "bags", "tiles"), [(SMALL, 36, 13), (LONG, 3, 500)])
def test_activations_are_what_autograd_keeps(model, bags, tiles, again, half):
    model = model.model_copy(update={"checkpoint_activations": again})
    network = SlideModel(128, "longnet", model).train().encoder
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        _, found = saved_bytes(network, *batch(bags, tiles, 128))
    kept, recomputed, _, parameters = activation_bytes("longnet", 128, model, bags, tiles, half, gpu=False)
    assert kept == pytest.approx(found, rel=0.15)
    assert (recomputed > 0) == again
    assert parameters == pytest.approx(sum(p.numel() for p in network.parameters()), rel=0.05)


def test_a_layer_computed_again_is_a_layer_kept():
    without = activation_bytes("longnet", 128, LONG, 3, 500, True)[0]
    model = LONG.model_copy(update={"checkpoint_activations": True})
    kept, again, _, _ = activation_bytes("longnet", 128, model, 3, 500, True)
    inputs = 3 * 501 * 96 * 4
    assert without - 3 * again == pytest.approx(kept - 3 * inputs)


def test_a_measured_step_tells_speed_and_memory():
    speed, found, expected, how, here, memory = measure_step("longnet", 32, SMALL, 6, 13, False)
    assert (how == "6 bags of 13 tiles" and here == "a core of this CPU") or torch.cuda.is_available()
    assert speed > 1e6 and memory > 2**30
    assert expected == pytest.approx(found, rel=0.15)


def write_manifest(study, cohort):
    """Write a manifest of slides that are empty files."""
    labels = cohort.slides["case_id"].map(cohort.labels["P53"])
    frame = cohort.slides.assign(path=cohort.slides["slide_id"] + ".tif", label_P53=labels)
    study.paths.cohort.mkdir(parents=True, exist_ok=True)
    for path in frame["path"]:
        (study.paths.cohort / path).touch()
    frame.to_csv(study.paths.cohort / "manifest.csv", index=False)


def value(frame, item):
    return frame.set_index("item")["value"][item]


def basis(frame, item):
    return frame.set_index("item")["basis"][item]


def test_a_plan_agrees_with_what_training_then_does(tiny_study, tiny_cohort, tmp_path, monkeypatch):
    monkeypatch.setattr(attention, "PLAIN_SCORES", 2**40)
    write_manifest(tiny_study, tiny_cohort)
    sizes = [len(read_bag(file).coords) for file in tiny_study.paths.bags.glob("*.h5")]
    once = tiny_study.training.model_copy(update={"epochs": 1})
    ways = {name: tiny_study.methods[name] for name in ("untrained", "full")}
    tiny_study = tiny_study.model_copy(update={"training": once, "methods": ways})
    frame = plan(tiny_study, measure=False)
    assert value(frame, "HE slides") == value(frame, "P53 slides") == value(frame, "P53 cases") == 21
    assert value(frame, "tiles a slide, mean") == np.mean(sizes) and basis(frame, "tiles a slide, mean") == "measured"
    assert value(frame, "tiles a slide, most") == max(sizes)
    disk = sum(file.stat().st_size for file in tiny_study.paths.bags.glob("*.h5"))
    assert value(frame, "disk for bags") == pytest.approx(disk, rel=0.5)
    assert value(frame, "models to train") == 3
    with FlopCounterMode(display=False) as counter:
        for method in tiny_study.methods:
            fit.fit(tiny_study, tiny_cohort, "P53", method, tmp_path / method, progress=False)
    assert value(frame, "arithmetic in all") == pytest.approx(counter.get_total_flops(), rel=0.3)
    trials = Tuning(seed=9, candidates=[Candidate(), Candidate(lr=1e-4)])
    more = plan(tiny_study.model_copy(update={"tuning": trials, "seeds": [1, 2]}), measure=False)
    assert value(more, "models to train") == 3 * 4
    assert value(more, "arithmetic in all") > 2 * value(frame, "arithmetic in all")


def test_slides_without_bags_are_sampled(tiny_study, tiny_cohort, make_slide):
    for file in tiny_study.paths.bags.glob("*.h5"):
        file.unlink()
    write_manifest(tiny_study, tiny_cohort)
    frame = plan(tiny_study, sample=2, measure=False)
    assert basis(frame, "tiles a slide, mean") == "assumed"
    assert sum(".tif" in text for text in frame.attrs["warnings"]) == 4
    frame = plan(tiny_study, sample=0, measure=False)
    assert basis(frame, "tiles a slide, mean") == "assumed"
    assert not [text for text in frame.attrs["warnings"] if ".tif" in text]
    made = make_slide(size=1280, covered=0.5).read_bytes()
    for slide_id in tiny_cohort.slides["slide_id"]:
        (tiny_study.paths.cohort / f"{slide_id}.tif").write_bytes(made)
    frame = plan(tiny_study, sample=2, measure=False)
    assert basis(frame, "tiles a slide, mean") == "measured"
    assert frame.set_index("item")["source"]["tiles a slide, mean"] == "tissue masks of 4 slides"
    assert 10 <= value(frame, "tiles a slide, mean") <= 16  # half of 25


def test_time_to_encode_is_that_of_reading_and_the_encoder_on_every_core(smoke_file, monkeypatch):
    monkeypatch.setattr("hsa.pipeline.plan._encoder", lambda *a: (512, 100.0, "x"))
    monkeypatch.setattr("hsa.pipeline.plan.cores", lambda: 4)
    frame = plan(load(smoke_file), measure=False)
    tiles = value(frame, "tiles in all")
    assert value(frame, "time to encode, 4 cores here") == pytest.approx(tiles * (1 / 270 + 1 / 100) / 4)


def test_a_virtual_study_that_is_not_made(smoke_file):
    study = load(smoke_file)
    frame = plan(study)
    assert value(frame, "HE slides") == value(frame, "Ki-67 cases") == 30
    assert value(frame, "models to train") == 3 * 3 * 3
    assert value(frame, "tiles a slide, mean") == 3  # 4 in truth, if made
    assert value(frame, "formula against measured") == pytest.approx(1, abs=0.15)
    assert basis(frame, "tiles a second and process") == "measured" == basis(frame, "speed here")
    assert not any("A100" in item for item in frame["item"])  # a GPU would do nothing but start kernels
    assert not study.paths.root.exists()


def test_the_paper_study(tmp_path):
    study = load(REPOSITORY / "studies" / "paper.yml")
    study = study.model_copy(update={"file": tmp_path / "studies" / "paper.yml"})
    with pytest.raises(InputError, match=r"manifest\.csv: no such manifest.*--cases"):
        plan(study)
    frame = plan(study, cases=300, measure=False)
    assert value(frame, "PD-L1 slides") == 300 and basis(frame, "PD-L1 slides") == "assumed"
    assert value(frame, "models to train") == 7 * 5 * 3
    assert value(frame, "disk for bags") == pytest.approx(4 * 300 * 8090 * (2 * 1536 + 40), rel=0.01)
    assert set(frame[frame["item"].str.startswith("time to")]["basis"]) == {"assumed"}
    assert value(frame, "time to train, H100") < value(frame, "time to train, A100")
    told = " ".join(frame.attrs["warnings"])
    assert "prov-gigapath is not made here" in told and "A100 has" not in told and "RTX 4090 has 24" in told
    assert "checkpoint_activations" not in told
    kept = study.model.model_copy(update={"checkpoint_activations": False})
    larger = plan(study.model_copy(update={"model": kept}), cases=300, measure=False)
    assert value(larger, "activations") > 6 * value(frame, "activations") > 9e10 / 2
    told = " ".join(larger.attrs["warnings"])
    assert "H100 has 80" in told and "`checkpoint_activations: true` under `model`" in told
    assert value(larger, "time to train, A100") < value(frame, "time to train, A100")
    text = describe(larger)
    for row in larger.itertuples():
        assert any(row.item in line and row.basis in line for line in text.splitlines())
    assert text.count("Warning:") == len(larger.attrs["warnings"])
    assert "30.2 GB" in text and isinstance(larger, pd.DataFrame)
