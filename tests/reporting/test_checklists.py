"""The two checklists of the book: every item is there and answered, and what an answer names is there."""

import csv
import io
import re
import shlex

import nbformat
import pytest
import typer
import yaml
from markdown_it import MarkdownIt

from hsa.cli import app
from hsa.errors import InputError
from hsa.files import REPOSITORY
from hsa.reporting import checklist, pieces, staging

BOOK = REPOSITORY / "book"
PAGES = {name: (BOOK / f"{name}.md").read_text() for name in ("reforms", "tripod_ai")}
ITEMS = {name: checklist.items(text) for name, text in PAGES.items()}
# How many letters each numbered item of the published lists has; "" is an item without one.
REFORMS = ("abc", "abcde", "abcdefg", "abc", "abcdef", "abc", "abc", "ab")
TRIPOD = (
    *("", "", "abc", "", "ab", "abc", "", "abc", "abc", "", "", "abcdefg", "", "", "", "", ""),
    *("abcdef", "", "abc", "", "", "ab", "", "", "", "abc"),
)
# What the chapter on own cohorts makes: tests/cohorts/test_own_cohort.py looks.
MADE = ("results/mine", "slides/", "studies/mine.yml", "predictions/")
ROWS = [pytest.param(name, row, id=f"{name}-{row.number}") for name, rows in ITEMS.items() for row in rows]


def numbers(letters):
    return [f"{i}{letter}" for i, several in enumerate(letters, 1) for letter in several or [""]]


def code(text):
    return [span for role, span in re.findall(r"(\{\w+\})?`([^`]+)`", text) if not role]


def headings(page):
    return re.findall(r"^#+ (.+)$", (BOOK / f"{page}.md").read_text(), re.M)


def test_every_item_of_the_published_lists_is_there_in_order_and_no_other():
    assert [row.number for row in ITEMS["reforms"]] == numbers(REFORMS)
    assert [row.number for row in ITEMS["tripod_ai"]] == numbers(TRIPOD)
    assert len(numbers(REFORMS)) == 32 and len({row.section for row in ITEMS["reforms"]}) == len(REFORMS) == 8
    assert len(TRIPOD) == 27
    assert all(row.section[0] == row.number[0] for row in ITEMS["reforms"]), "modules are numbered as their items"


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_tables_that_a_phone_can_show_and_every_row_is_an_item(page):
    tokens = MarkdownIt("commonmark").enable("table").parse(PAGES[page])
    kinds = [token.type for token in tokens]
    tables, items = kinds.count("table_open"), len(ITEMS[page])
    assert kinds.count("th_open") == 3 * tables and kinds.count("td_open") == 3 * items
    assert kinds.count("tr_open") == tables + items
    assert all(len(row.cells) == 2 for row in ITEMS[page])


@pytest.mark.parametrize("page, row", ROWS)
def test_an_item_is_answered_in_few_words(page, row):
    for cell in (row.asks, *row.cells):
        assert cell and "TODO" not in cell
        assert len(re.sub(r"[*`]|\{\w+\}", "", cell)) <= 260, f"{len(cell)} signs: too long for a phone"
    if page == "reforms":
        answer, where = row.cells
        said = re.match(r"\*\*(Met|Partly|Not met)\.\*\* (.+)", answer)
        assert said, "begin with Met, Partly or Not met"
        assert said[1] == "Met" or re.search(r"\b([Nn]o|not|[Nn]one)\b", said[2]), "say what is lacking"
        assert re.search(r"\{(doc|ref)\}`", where), "say where"


@pytest.mark.parametrize("page", PAGES)
def test_every_page_place_and_paper_that_is_linked_is_there(page):
    toc = (BOOK / "_toc.yml").read_text()
    linked = re.findall(r"\{doc\}`([^`]+)`", PAGES[page])
    assert len(set(linked)) >= 5 and not [one for one in linked if f"file: book/{one}\n" not in toc]
    places = {label for one in BOOK.glob("*.md") for label in re.findall(r"^\(([\w-]+)\)=$", one.read_text(), re.M)}
    assert set(re.findall(r"\{ref\}`([^`]+)`", PAGES[page])) <= places
    papers = re.findall(r"^@\w+\{(\w+),$", (BOOK / "references.bib").read_text(), re.M)
    cited = re.findall(r"\{cite\}`([^`]+)`", PAGES[page])
    assert cited and set(cited) <= set(papers)


@pytest.mark.parametrize("page", PAGES)
def test_every_part_of_a_page_that_is_named_is_a_heading_there(page):
    named = re.findall(r"\{doc\}`([^`]+)`, \*([^*]+)\*", PAGES[page])
    assert len(named) >= 8
    assert not [(there, part) for there, part in named if part not in headings(there)]


def test_every_chapter_that_is_named_is_a_notebook():
    titles = [
        nbformat.read(REPOSITORY / "notebooks" / f"{name}.ipynb", as_version=4).cells[0].source.splitlines()[0][2:]
        for name in staging.CHAPTERS
    ]
    for text in PAGES.values():
        told = re.findall(r"chapters? \*([^*]+)\*(?: and \*([^*]+)\*)?", text)
        assert {one for pair in told for one in pair if one} <= set(titles)


def _check_command(line):
    """Follow the words of `hsa ...` down the command line: each command, and each option of it, is there."""
    words, here = shlex.split(line)[1:], typer.main.get_command(app)
    while words and words[0] in getattr(here, "commands", {}):
        here = here.commands[words.pop(0)]
    assert here.name != "hsa", f"{line}: no such command"
    options = {option for parameter in here.params for option in parameter.opts}
    given = [word for word in words if word.startswith("--")]
    assert set(given) <= options, f"{line}: it has {sorted(options)}"
    assert not re.search(r"`", line)


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_there_with_its_options(page):
    commands = [one for one in code(PAGES[page]) if one.startswith("hsa ")]
    assert commands
    for line in commands:
        _check_command(line)
    targets = re.findall(r"^(\w+):.*##", (REPOSITORY / "Makefile").read_text(), re.M)
    makes = [one.split()[1] for one in code(PAGES[page]) if one.startswith("make ")]
    assert makes and set(makes) <= set(targets)


@pytest.mark.parametrize("line", ["hsa nothing --study mine", "hsa cohort --stain mine", "hsa bags --study mine"])
def test_a_command_that_is_not_there_is_found(line):
    with pytest.raises(AssertionError):
        _check_command(line)


@pytest.mark.parametrize("page", PAGES)
def test_every_other_name_is_a_file_of_the_repository_or_a_word_of_the_chapter_on_own_cohorts(page):
    own = (BOOK / "own_cohort.md").read_text()
    made = re.findall(r"`([^`]+)` of the (?:study|marker|figures|method)\b", PAGES[page])
    for name in code(PAGES[page]):
        if name.startswith(("hsa ", "make ", *MADE)) or name in made:
            continue
        words = re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", own)
        assert (REPOSITORY / name).exists() or (page == "tripod_ai" and (words or name == "warning")), name


def test_studies_that_a_command_names_are_there_or_are_the_readers_own():
    for text in PAGES.values():
        for study in re.findall(r"(?:--study |STUDY=)(\w+)", text):
            assert study == "mine" or (REPOSITORY / "studies" / f"{study}.yml").is_file()


def test_the_file_to_fill_in_holds_every_item_without_markup():
    written = pieces.facts()["tripod_ai.csv"]
    assert "{download}`The same table as CSV <_generated/tripod_ai.csv>`" in PAGES["tripod_ai"]
    head, *rows = csv.reader(io.StringIO(written))
    assert head == ["section", "number", "item", "you have", "you add", checklist.EMPTY]
    assert [row[1] for row in rows] == numbers(TRIPOD)
    assert all(len(row) == 6 and all(row[:5]) and row[5] == "" for row in rows)
    assert not re.search(r"[*`{}]", written) and written.isascii()
    assert "page 'Your own cohort', 2. The manifest" in written and "section 'A fair comparison'" in written


@pytest.mark.parametrize(
    "text, says",
    [
        ("# A\n\nno table\n", "no item; begin the rows"),
        ("| item | b |\n|---|---|\n| **1a** x | {doc}`gone` |\n", "{doc}`gone`: there is no such page or place"),
        ("| item | b |\n|---|---|\n| **1a** x | {ref}`gone` |\n", "{ref}`gone`: there is no such page or place"),
    ],
)
def test_a_page_that_is_no_checklist_or_links_nowhere_is_told(tmp_path, text, says):
    (tmp_path / "list.md").write_text(text)
    with pytest.raises(InputError, match=re.escape(f"{tmp_path / 'list.md'}: {says}")):
        checklist.template(tmp_path / "list.md")


def test_the_pages_stand_in_books_of_both_kinds():
    toc = yaml.safe_load((BOOK / "_toc.yml").read_text())
    for kind in staging.KINDS:
        parts = {part["caption"]: part["chapters"] for part in staging.expand_toc(toc, ["HER2"], kind)["parts"]}
        files = [chapter["file"] for chapters in parts.values() for chapter in chapters]
        assert files.count("book/reforms") == files.count("book/tripod_ai") == 1
        assert {"file": "book/tripod_ai"} in parts["Your own data"]
        assert ("Another cohort" in staging.only(PAGES["reforms"], kind, "reforms.md")) == (kind == "manifest")
