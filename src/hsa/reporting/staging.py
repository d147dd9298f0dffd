"""The book before it is built: prose and executed notebooks, laid out as the repository is.

What a page says of the cohort depends on its kind. Prose that holds for one kind stands in a block
`:::{only} virtual` or `:::{only} manifest`, and a part of the table of contents may say `only:` likewise.

Jupyter Book reads `build/stage/`, so a page's name is the repository's path. Each marker's chapters come from
one notebook; what has to differ between them (titles, figure names) is written here.
"""

import errno
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import nbformat
import yaml

from hsa.errors import InputError
from hsa.files import LEFT_OVER
from hsa.reporting import notebooks
from hsa.study.provenance import provenance
from hsa.study.study import Study

KINDS = ("virtual", "manifest")
_BLOCK = re.compile(r"^(?P<fence>:{3,})\{only\} (?P<kind>\S+)\n(?P<text>.*?)^(?P=fence)\n", re.DOTALL | re.MULTILINE)
_LEFT = re.compile(r"\.(new|old)")
SWAPS = 100  # tries to put a stage in the place of another
CHAPTERS = [
    "01_data_preparation",
    "02_contrastive_training",
    "03_baseline_comparison",
    "04_embedding_analysis",
    "05_prescreening",
]


def stage(study: Study, repository: Path, target: Path, fragments: dict[str, str]) -> None:
    """Lay out the book of a study in `target`, which is replaced as a whole.

    Args:
        study: whose executed notebooks to take.
        repository: the folder that holds book/ and notebooks/.
        target: the stage, such as build/stage.
        fragments: generated pieces of Markdown, name -> text, for the pages to include.

    Raises:
        InputError: a notebook has not been executed.
    """
    with _replacing_folder(target) as new:
        _lay_out(study, repository, new, fragments)


@contextmanager
def _replacing_folder(target: Path) -> Iterator[Path]:
    """Give a folder beside `target`, and put it there if the block succeeds: of two at once, the later one stays."""
    drawn = secrets.token_hex(4)
    new, old = (target.with_name(f".{target.name}.{drawn}.{kind}") for kind in ("new", "old"))
    for left in target.parent.glob(f".{target.name}.*"):  # by a process that was killed
        with suppress(OSError):
            if _LEFT.fullmatch(left.suffixes[-1]) and time.time() - left.stat().st_mtime > LEFT_OVER:
                shutil.rmtree(left)
    try:
        yield new
        for _ in range(SWAPS):
            with suppress(FileNotFoundError):
                target.rename(old)
            shutil.rmtree(old, ignore_errors=True)
            try:
                new.rename(target)
            except OSError as error:  # another one was put there meanwhile
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                continue
            return
        raise InputError(f"{target}: others write there all the time. Wait until they are done, and stage again.")
    finally:
        for folder in (new, old):
            shutil.rmtree(folder, ignore_errors=True)


def _lay_out(study: Study, repository: Path, new: Path, fragments: dict[str, str]) -> None:
    shutil.copytree(repository / "book", new / "book", ignore=shutil.ignore_patterns("__pycache__"))
    for prose in (new / "book").rglob("*.md"):
        prose.write_text(only(prose.read_text(), study.cohort.kind, prose.name))
    (new / "book" / "_generated").mkdir()
    for name, text in fragments.items():
        (new / "book" / "_generated" / name).write_text(text)
    for marker in study.markers:
        for chapter in CHAPTERS:
            executed = study.at(study.seed).paths.notebook(marker, chapter)
            if not executed.is_file():
                raise InputError(
                    f"{executed} is missing. Run `hsa notebook {chapter} --stain {marker} --study {study.name}`."
                )
            page = staged_notebook(study, marker, repository / "notebooks" / f"{chapter}.ipynb", executed)
            path = new / "notebooks" / marker.lower() / f"{chapter}.ipynb"
            path.parent.mkdir(parents=True, exist_ok=True)
            nbformat.write(page, path)
    toc = yaml.safe_load((repository / "book" / "_toc.yml").read_text())
    (new / "book" / "_toc.yml").write_text(
        yaml.safe_dump(expand_toc(toc, list(study.markers), study.cohort.kind), sort_keys=False)
    )


def only(text: str, kind: str, page: str) -> str:
    """Keep the blocks of a page that hold for this kind of cohort, without their fences, and drop the others.

    Args:
        text: Markdown. A block begins with a line `:::{only} KIND` and ends with a line of as many colons; to hold
            directives of its own it has more colons than they.
        kind: virtual or manifest.
        page: named in errors.

    Raises:
        InputError: a block of another kind than these, or without an end.
    """
    for found in _BLOCK.finditer(text):
        if found["kind"] not in KINDS:
            raise InputError(f"{page}: `{{only}} {found['kind']}`: give one of {', '.join(KINDS)}.")
    kept = _BLOCK.sub(lambda block: block["text"] if block["kind"] == kind else "", text)
    if "{only}" in kept:
        raise InputError(f"{page}: a block `{{only}}` has no end: close it with a line of as many colons.")
    return kept


def expand_toc(toc: dict, markers: list[str], kind: str) -> dict:
    """Repeat the part of the table of contents that holds `{stain}`, once a marker; drop those of other cohorts.

    Args:
        toc: as read from book/_toc.yml.
        markers: of the study, in order.
        kind: of the cohort, virtual or manifest.
    """
    parts = []
    for part in toc["parts"]:
        part = dict(part)
        if part.pop("only", kind) != kind:
            continue
        if "{stain}" not in part["caption"]:
            parts.append(part)
            continue
        for marker in markers:
            chapters = [{"file": chapter["file"].replace("{stain}", marker.lower())} for chapter in part["chapters"]]
            parts.append({"caption": part["caption"].replace("{stain}", marker), "chapters": chapters})
    return {**toc, "parts": parts}


def staged_notebook(study: Study, marker: str, source: Path, executed: Path) -> nbformat.NotebookNode:
    """Turn an executed notebook into a page.

    The title names the marker; figure names, and references to them, end in the marker, as the book needs
    them unique; the parameter cells become a table, above which stands whether the tissue is
    simulated; code is folded, for who reads to open, and that of a sentence removed; the metadata name the
    committed notebook, so that launch buttons open that.
    """
    page = nbformat.read(executed, as_version=4)
    tag = marker.lower()
    page.metadata["hsa_source"] = f"notebooks/{source.name}"
    made_by = page.metadata.setdefault("hsa_provenance", provenance(study, stain=marker))
    cells = []
    for cell in page.cells:
        tags = cell.metadata.get("tags", [])
        if "injected-parameters" in tags:
            continue
        if "parameters" in tags:
            cell = nbformat.v4.new_markdown_cell(_parameter_table(study, marker, source, made_by), id=cell.id)
        elif cell.cell_type == "markdown":
            cell.source = re.sub(r"\A# (.+)", lambda m: f"# {m[1]}: {marker}", cell.source)
            cell.source = re.sub(r"(\{numref\}`fig-[a-z0-9-]+)`", rf"\1-{tag}`", cell.source)
        elif "remove-cell" not in tags:
            says = cell.source.startswith("say(")  # its output is the prose of the page
            cell.metadata["tags"] = [*tags, "remove-input" if says else "hide-input"]
        figure = cell.metadata.get("mystnb", {}).get("figure")
        if figure:
            figure["name"] = f"{figure['name']}-{tag}"
            figure["caption"] = figure["caption"].replace("{stain}", marker)
        image = cell.metadata.get("mystnb", {}).get("image")
        if image:
            image["alt"] = image["alt"].replace("{stain}", marker)
        cells.append(cell)
    page.cells = cells
    return page


def _parameter_table(study: Study, marker: str, source: Path, made_by: Mapping[str, Any]) -> str:
    given = {"study": study.name, "stain": marker, "seed": study.seed}
    rows = [
        f"| `{name}` | {given.get(name, known['default'])} | {known['default'].strip(chr(34))} | {known['help']} |"
        for name, known in notebooks.parameters(source).items()
    ]
    versions = ", ".join(f"{name} {made_by[name]}" for name in ("hsa", "python", "torch", "numpy", "scikit-learn"))
    simulated = (
        "**Simulated tissue** ({doc}`/book/virtual_tissue`): no number on this page says anything about patients."
    )
    return "\n".join(
        [
            *([simulated, ""] if study.simulated else []),
            "| parameter | this page | default | meaning |",
            "|---|---|---|---|",
            *rows,
            "",
            f"*Made with {versions}.*",
        ]
    )
