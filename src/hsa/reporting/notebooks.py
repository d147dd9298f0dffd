"""Numbers and prose that a notebook gives the book, and one notebook run by papermill."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat

from hsa.errors import InputError, cut
from hsa.files import REPOSITORY, replacing, write_json
from hsa.fingerprint import fingerprint
from hsa.pipeline.stamps import STOP, stamp
from hsa.study.provenance import Clock, provenance, run_record
from hsa.study.study import Study

_GLUE = "application/papermill.record/"


def glue(**values: float | int | str) -> None:
    """Store named values in the notebook, where the book's `glue` role and the tests find them.

    Args:
        **values: numbers or text. NumPy scalars become plain numbers, which the book can format.
    """
    from IPython.display import display

    for name, value in values.items():
        plain = value.item() if hasattr(value, "item") else value
        display(
            {f"{_GLUE}text/plain": repr(plain)},
            raw=True,
            metadata={"scrapbook": {"name": name, "mime_prefix": _GLUE}},
        )


def say(*paragraphs: str) -> None:
    """Show paragraphs of Markdown below a cell: a page of the book sets them as prose, and so does JupyterLab.

    Args:
        *paragraphs: Markdown without roles or directives, which are read on pages only.
    """
    from IPython.display import Markdown, display

    display(Markdown("\n\n".join(paragraphs)))


def glued(notebook: str | Path) -> dict[str, str]:
    """Read the glued values of an executed notebook: name -> text."""
    found = {}
    for cell in nbformat.read(notebook, as_version=4).cells:
        for output in cell.get("outputs", []):
            name = output.get("metadata", {}).get("scrapbook", {}).get("name")
            if name is not None:
                found[name] = output["data"][f"{_GLUE}text/plain"]
    return found


def parameters(notebook: str | Path) -> dict[str, dict[str, str]]:
    """Read the parameters of a notebook from its cell tagged `parameters`.

    Returns:
        name -> {"default": its literal, "help": its comment}.
    """
    import papermill

    found = papermill.inspect_notebook(str(notebook))
    return {name: {"default": value["default"], "help": value["help"]} for name, value in found.items()}


def notebook_stamp(study: Study, marker: str, name: str) -> str:
    """Fingerprint what an executed chapter depends on besides the notebook itself: results, settings, code it calls.

    Args:
        study: the study.
        marker: whose chapter.
        name: of the notebook, such as "03_baseline_comparison", or its path.
    """
    source = Path(name) if name.endswith(".ipynb") else REPOSITORY / "notebooks" / f"{name}.ipynb"
    values = [study.model_dump(mode="json"), stamp(study, "evaluation", marker), marker]
    return fingerprint(values, source, __name__, stop=STOP)


def source_of(study: Study, name: str) -> Path:
    """Find a notebook by name, or by path, among those of the repository and of the study's own folder.

    Raises:
        InputError: a path elsewhere: a notebook is code, and what is run is the study's alone.
    """
    homes = [(home / "notebooks").resolve() for home in dict.fromkeys((REPOSITORY, study.home))]
    named = [Path(name)] if name.endswith(".ipynb") else [home / f"{name}.ipynb" for home in homes]
    source = next((path for path in named if os.path.isfile(path)), named[0])  # Path's own fails for a long name
    if source.resolve().parent not in homes:
        listed = " or ".join(map(str, homes))
        raise InputError(f"{cut(name)}: no notebook of this study. Give the name of one in {listed}.")
    return source


def run_chapter(study: Study, marker: str, source: Path, values: Mapping[str, Any]) -> Path:
    """Execute a notebook for one marker of a study; what made it stands in it, how the run went beside it.

    Args:
        study: the study, with one seed.
        marker: whose chapter.
        source: the notebook.
        values: its parameters.

    Returns:
        The executed copy; beside it lies `<name>.run.json`.

    Raises:
        InputError: see `run_notebook`, as for the other errors.
    """
    _require(source)
    target, clock = study.paths.notebook(marker, source.stem), Clock()
    said = {"stain": marker, "fingerprint": notebook_stamp(study, marker, str(source))}
    run_notebook(source, target, values, provenance(study, **said))
    write_json(target.with_suffix(".run.json"), run_record(study, clock, step="notebook", **said))
    return target


def run_notebook(
    notebook: str | Path, target: str | Path, values: Mapping[str, Any], made_by: Mapping[str, Any] | None = None
) -> None:
    """Execute a notebook with papermill and check what came out.

    Args:
        notebook: the committed notebook, without outputs.
        target: where the executed copy goes. Written only if the run succeeds.
        values: parameter values.
        made_by: what the executed copy says made it, in its metadata.

    Raises:
        InputError: no such notebook, or a parameter that it does not have (papermill only warns).
        RuntimeError: a figure cell made no figure.
        papermill.PapermillExecutionError: a cell raised; the message shows where.
    """
    import papermill

    notebook, target = Path(notebook), Path(target)
    _require(notebook)
    known = parameters(notebook)
    for name in values:
        if name not in known:
            raise InputError(f"{notebook}: unknown parameter {name!r}. It has {', '.join(known) or 'none'}.")
    quiet = {"TQDM_DISABLE": "1", "PYTHONWARNINGS": "ignore::FutureWarning"}
    before = {name: os.environ.get(name) for name in quiet}
    os.environ.update(quiet)
    try:
        with replacing(target) as temporary:
            papermill.execute_notebook(
                str(notebook),
                str(temporary),
                dict(values),
                kernel_name="python3",
                progress_bar=False,
                extra_arguments=[
                    "--log-level=40"
                ],  # else each kernel warns that its port on this machine is not encrypted
            )
            _check_figures(notebook, temporary)
            _strip_run(temporary, made_by)
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _require(notebook: Path) -> None:
    if not os.path.isfile(notebook):
        known = ", ".join(sorted(path.stem for path in notebook.parent.glob("*.ipynb")))
        raise InputError(f"{cut(str(notebook))}: no such notebook. Known: {known or 'none'}.")


def _check_figures(notebook: Path, executed: Path) -> None:
    for cell in nbformat.read(executed, as_version=4).cells:
        figure = cell.metadata.get("mystnb", {}).get("figure")
        pictures = [o for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
        if figure and len(pictures) != 1:
            raise RuntimeError(f"{notebook}: {figure['name']} should be one picture, the cell made {len(pictures)}")


def _strip_run(executed: Path, made_by: Mapping[str, Any] | None) -> None:
    """Remove dates, durations, paths and drawn ids, which differ between equal runs or name the machine."""
    book = nbformat.read(executed, as_version=4)
    book.metadata.pop("papermill", None)
    if made_by:
        book.metadata["hsa_provenance"] = dict(made_by)
    for cell in book.cells:
        if "injected-parameters" in cell.metadata.get("tags", []) and "id" in cell:
            cell["id"] = "injected-parameters"
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
    nbformat.write(book, executed)
