"""What a study is, in words and tables written from its settings and nothing else: no result stands here."""

from hsa.evaluation.ceilings import TITLES as CEILINGS
from hsa.reporting.tables import table
from hsa.study.settings import VirtualCohort
from hsa.study.study import Study

SUMS = {
    "intra_modality": "the masking loss",
    "info_nce": "the contrastive loss",
    "classification": "the classification loss",
}
_PLAIN = {
    "colour": "sees the mean and the spread of each tile's colours and nothing else; where it tells the classes apart, "
    "the others may do no more",
    "mean": "averages the features of the tiles, with no training at all",
}


def plain(text: str) -> str:
    """Escape what Markdown would read as a sign: a title or the name of a class is any text."""
    return "".join(f"\\{sign}" if sign in r"\`*_{}[]<>#|$~" else sign for sign in text)


def cohort(study: Study) -> str:
    """Say what the slides of the study are."""
    if study.simulated:
        return (
            f"**The cohort is simulated** ({{doc}}`/book/virtual_tissue`): {plain(study.title)}. Its numbers say "
            "nothing about patients.\n"
        )
    return f"**The cohort is that of the study `{study.name}`**: {plain(study.title)}. Its slides are read from disk.\n"


def run(study: Study) -> str:
    """Say how the study trains: methods, seeds, candidates, slide encoder."""
    trained = sum(bool(method.losses) for method in study.methods.values())
    size = f"{_count(study.model.depth, 'layer')} of {study.model.dim}"
    candidates = f"each tries {len(study.tuning.candidates)} settings in each fold" if study.tuning else "none is tuned"
    slides = f"; slides of {study.cohort.slide_px} px" if isinstance(study.cohort, VirtualCohort) else ""
    return (
        f"`{study.name}`: {plain(study.title)}; {_count(len(study.seeds), 'training seed')}; "
        f"{_count(len(study.methods), 'method')}, {trained} of them trained, {candidates}; "
        f"a slide encoder of {size}{slides}.\n"
    )


def contrast(study: Study) -> str:
    """Say what the difference of full method and baseline holds, and which difference holds the alignment alone."""
    full, base = study.methods[study.full], study.methods[study.baseline]
    added = [loss for loss in full.losses if loss not in base.losses]
    dropped = [loss for loss in base.losses if loss not in full.losses]
    same = full.encoder == base.encoder
    changed = [f"adds {SUMS[loss]}" for loss in added] + [f"leaves out {SUMS[loss]}" for loss in dropped]
    changed += [] if same else ["has another slide encoder"]
    said = f"Beside *{plain(base.title)}*, *{plain(full.title)}* {_and(changed) if changed else 'changes no loss'}."
    if len(changed) > 1:
        said += " A difference between the two is what all of that does together, and not what alignment alone does."
    elif added == ["info_nce"]:
        said += " So a difference between the two is what this loss does."
    alone = without(study, "info_nce")
    if alone is None:
        return f"{said} No method of this study is the full one but for the contrastive loss, the one that aligns.\n"
    if alone == study.baseline:
        return f"{said}\n"
    title = plain(study.methods[alone].title)
    return f"{said} The share of the contrastive loss, the one that aligns, is the difference from *{title}*.\n"


def without(study: Study, loss: str) -> str | None:
    """Name the method that is the full one but for this loss; None where there is none."""
    full = study.methods[study.full]
    if loss not in full.losses:
        return None
    for name, method in study.methods.items():
        if method.encoder == full.encoder and sorted([*method.losses, loss]) == sorted(full.losses):
            return name
    return None


def rows(study: Study) -> str:
    """Say what each row of a table of methods is, of the methods and ceilings that this study has."""
    said = ["*Majority class* predicts the commoner class of the training cases."]
    for method in study.methods.values():
        what = f"is trained with {_and([SUMS[loss] for loss in method.losses])}"
        if not method.losses:
            what = _PLAIN.get(method.encoder, "has the weights that it started from")
        said.append(f"*{plain(method.title)}* {what}.")
    if study.simulated:
        said.append(
            f"*{CEILINGS['oracle']}* is a ceiling, not a prediction: as the tissue is simulated, the morphology behind "
            "the H&E slide is known, and the probe is given that."
        )
    said.append(
        f"*{CEILINGS['ihc']}*, where every case has one, is a ceiling too: what the probe reads from the stain that "
        "one wants to spare."
    )
    return "\n".join(f"- {line}" for line in said)


def sections(study: Study) -> str:
    """Say what the two sections of a case have in common."""
    if study.simulated:
        return (
            "The two sections of a case were cut one after the other from one simulated specimen: they share the "
            "layout of the tissue, but no cell."
        )
    return "How near to each other the two sections of a case were cut, the manifest does not say."


def truth(study: Study) -> str:
    """Say whether heat maps can be held against the truth."""
    if study.simulated:
        return "The tissue is simulated, so its tumour is known: the black line is its outline."
    return "Where tumour lies in these slides is not known, so no map can be held against it."


def published(study: Study, *others: Study) -> str:
    """Lay the published settings beside those of a study and of others, each once."""
    both = list({one.name: one for one in (study, *others)}.values())
    names = [f"`{one.name}`" if one is study else f"experiment `{one.name}`" for one in both]
    known = {
        "cohort": "private, gastrointestinal and lung",
        "tile encoder": "Prov-GigaPath, 1536-d",
        "slide encoder": "LongNet, 12 layers of 768, pre-trained",
        "drop-path of the layers": "0 to 0.1",
        "learning rate": "5e-5 to 5e-7",
        "batch, epochs": "12, 25 (P53: 30)",
        "temperature": "0.01",
    }
    here = [_settings(one) for one in both]
    lines = [[name, known[name], *(one[name] for one in here)] for name in known]
    return table(["", "published", *names], lines, words=True)


def _settings(study: Study) -> dict[str, str]:
    model, training, tuned = study.model, study.training, study.tuning
    lr, temperature = [training.lr], [training.temperature]
    if tuned:
        lr = [one.lr or training.lr for one in tuned.candidates]
        temperature = [one.temperature or training.temperature for one in tuned.candidates]
    weights = "from published weights" if model.weights else "from random weights"
    shown = "simulated" if study.simulated else "slides on disk"
    return {
        "cohort": f"{plain(study.title)} ({shown})",
        "tile encoder": f"`{study.encoder.name}`",
        "slide encoder": f"LongNet, {_count(model.depth, 'layer')} of {model.dim}, {weights}",
        "drop-path of the layers": f"0 to {model.drop_path:g}" if model.depth > 1 else "0",
        "learning rate": f"{_or(lr)} to {training.min_lr:g}{', tuned' if tuned else ''}",
        "batch, epochs": f"{training.batch}, {training.epochs}",
        "temperature": f"{_or(temperature)}{', tuned' if len(set(temperature)) > 1 else ''}",
    }


def _or(numbers: list[float]) -> str:
    return " or ".join(f"{number:g}" for number in sorted(set(numbers)))


def _count(number: int, name: str) -> str:
    return f"{number} {name}{'s' * (number != 1)}"


def _and(parts: list[str]) -> str:
    """Join phrases: a; a and b; a, b and c."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
