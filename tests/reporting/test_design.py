import pytest

from hsa.files import REPOSITORY
from hsa.reporting import design
from hsa.study.study import ManifestCohort, Tuning, load


@pytest.fixture(scope="module")
def virtual():
    return load(REPOSITORY / "studies" / "virtual.yml")


def real(study, **more):
    return study.model_copy(update={"cohort": ManifestCohort(kind="manifest", manifest="manifest.csv")} | more)


def test_a_contrast_names_every_loss_that_it_holds(virtual):
    said = design.contrast(virtual)
    assert "adds the masking loss and adds the contrastive loss" in said
    assert "not what alignment alone does" in said
    assert said.endswith(
        "The share of the contrastive loss, the one that aligns, is the difference from *Full without contrast*.\n"
    )
    fewer = {name: method for name, method in virtual.methods.items() if name != "no_contrast"}
    said = design.contrast(virtual.model_copy(update={"methods": fewer}))
    assert said.endswith("No method of this study is the full one but for the contrastive loss, the one that aligns.\n")
    said = design.contrast(virtual.model_copy(update={"baseline": "no_contrast"}))
    assert said.endswith("adds the contrastive loss. So a difference between the two is what this loss does.\n")
    said = design.contrast(virtual.model_copy(update={"baseline": "abmil"}))
    assert "adds the contrastive loss and has another slide encoder" in said
    assert "is what all of that does together" in said
    said = design.contrast(virtual.model_copy(update={"full": "contrastive_only"}))
    assert "leaves out the classification loss" in said


def test_the_method_without_a_loss_is_found_by_its_losses_and_not_by_its_name(virtual):
    assert design.without(virtual, "info_nce") == "no_contrast"
    assert design.without(load("paper"), "intra_modality") == "no_masking"
    assert design.without(virtual, "intra_modality") is None
    renamed = {f"x_{name}": method for name, method in virtual.methods.items()}
    other = virtual.model_copy(update={"methods": renamed, "full": "x_full", "baseline": "x_classification_only"})
    assert design.without(other, "info_nce") == "x_no_contrast"
    gated = renamed | {"x_no_contrast": renamed["x_no_contrast"].model_copy(update={"encoder": "abmil"})}
    assert design.without(other.model_copy(update={"methods": gated}), "info_nce") is None
    assert design.without(virtual.model_copy(update={"full": "no_contrast"}), "info_nce") is None


def test_rows_are_those_of_the_study(virtual):
    said = design.rows(virtual)
    assert said.count("\n") + 1 == 1 + len(virtual.methods) + 2
    assert "*Full without contrast* is trained with the masking loss and the classification loss" in said
    assert "*Untrained slide encoder* has the weights that it started from" in said
    few = {name: virtual.methods[name] for name in ("classification_only", "full")}
    said = design.rows(real(virtual, methods=few))
    assert said.count("\n") + 1 == 1 + 2 + 1
    assert "Colour" not in said and "simulated" not in said and "Oracle" not in said


def test_what_is_said_of_the_tissue_follows_the_kind_of_cohort(virtual):
    for told in (design.cohort, design.sections, design.truth, design.run):
        assert "simulated" in told(virtual) or told is design.run
        assert "simulated" not in told(real(virtual)) and "virtual tissue" not in told(real(virtual))
    odd = real(virtual, title="HER2 *from* <H&E> at $5", name="mine")
    assert r"HER2 \*from\* \<H&E\> at \$5" in design.cohort(odd), "a title is any text"
    assert "of this book" not in design.run(odd) and "1 training seed; 9 methods, 6 of them trained" in design.run(odd)


def test_settings_stand_beside_the_published_ones(virtual):
    experiment = load(REPOSITORY / "studies" / "diffuse.yml")
    shown = design.published(virtual, experiment)
    assert "| temperature | 0.01 | 0.01 | 0.01 or 0.05 or 0.1, tuned |" in shown
    assert "| batch, epochs | 12, 25 (P53: 30) | 12, 25 | 24, 25 |" in shown
    assert "| drop-path of the layers | 0 to 0.1 | 0 | 0 |" in shown, "one layer drops no path"
    assert design.published(experiment, experiment).splitlines()[0] == "|  | published | `diffuse` |"
    deep = real(virtual, model=virtual.model.model_copy(update={"depth": 2, "weights": "gigapath.pth"}), title="HER2")
    shown = design.published(deep, experiment)
    assert "| LongNet, 2 layers of 64, from published weights |" in shown and "| 0 to 0.1 | 0 to 0.1 | 0 |" in shown
    assert "| HER2 (slides on disk) | Diffuse signal, 500 cases (simulated) |" in shown
    tuned = deep.model_copy(update={"tuning": Tuning(seed=9, candidates=[{"weight_decay": 0.1}, {"lr": 0.002}])})
    assert "| 0.001 or 0.002 to 1e-05, tuned |" in design.published(tuned, experiment)


def test_a_method_without_contrast_is_in_every_study_that_could_be_asked_for_it():
    for path in (REPOSITORY / "studies").glob("*.yml"):
        study = load(path)
        if study.cohort.kind == "manifest":
            assert design.without(study, "info_nce"), f"{path.name}: what alignment alone is worth cannot be told"
