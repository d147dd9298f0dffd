"""What the built book says of its results: as prose, of its own cohort, from its own numbers."""

import html
import re

import nbformat
import pytest

from hsa.pipeline import steps
from hsa.reporting import chapter_sentences, design, experiment, reference
from hsa.reporting.staging import CHAPTERS

pytestmark = pytest.mark.smoke


def words(page):
    """The text of a page: no tags, each blank one space."""
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", "", page)))


def test_results_are_prose_and_never_console_text(built, pages):
    study, _ = built
    for marker in study.markers:
        for chapter in CHAPTERS:
            for cell in nbformat.read(study.paths.notebook(marker, chapter), as_version=4).cells:
                for output in cell.get("outputs", []):
                    assert output["output_type"] != "stream", f"{chapter}: {output.get('text')}"
            page = pages[f"notebooks/{marker.lower()}/{chapter}.html"]
            assert 'class="output text_plain' not in page and 'class="output stream' not in page, chapter


def test_the_verdict_of_a_chapter_is_a_paragraph_with_the_numbers_of_the_evaluation(built, pages):
    study, _ = built
    for marker in study.markers:
        text = words(pages[f"notebooks/{marker.lower()}/03_baseline_comparison.html"])
        assert chapter_sentences.verdict(steps.evaluate(study, marker)).strip("*") in text
        assert "what all of that does together" in text


def test_the_first_page_leads_with_the_answer_of_every_experiment_that_is_done(pages):
    text = words(pages["book/introduction.html"])
    assert "The cohort is virtual tissue" in text and "{only}" not in text
    found = [(study, experiment.read(study)) for study in reference.studies()]
    done = [re.sub(r"[*\n]", "", experiment.answer(*one)) for one in found if one[1]]
    assert done and all(answer in text for answer in done)
    other = words(pages["book/reference.html"])
    assert all(answer in other for answer in done)


def test_the_results_page_tells_what_alignment_alone_is_worth_or_that_it_cannot_be_told(built, pages):
    study, _ = built
    assert re.sub(r"[*\n]", "", design.contrast(study)) in words(pages["book/results.html"])
