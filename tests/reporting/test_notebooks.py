import nbformat
import papermill
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from hsa.errors import InputError
from hsa.files import REPOSITORY
from hsa.reporting import notebooks
from hsa.study.study import load

FIGURE = {"mystnb": {"figure": {"name": "fig-line", "caption": "A line."}, "image": {"alt": "a line"}}}


@pytest.fixture
def notebook(tmp_path):
    """Write a small notebook with these code cells; the first holds the parameters."""

    def write(*sources, name="n.ipynb", figure=None):
        cells = [
            new_markdown_cell("# Title"),
            new_code_cell("seed: int = 0  # random seed", metadata={"tags": ["parameters"]}),
            *(new_code_cell(source) for source in sources),
        ]
        if figure:
            cells.append(new_code_cell(figure, metadata=FIGURE))
        path = tmp_path / name
        spec = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        nbformat.write(new_notebook(cells=cells, metadata=spec), path)
        return path

    return write


def test_parameters_reach_the_notebook_and_glued_numbers_come_back(notebook, tmp_path):
    path = notebook(
        "import numpy as np\nfrom hsa.reporting.notebooks import glue\nglue(twice=np.float64(2 * seed), name='x')"
    )
    notebooks.run_notebook(path, tmp_path / "out" / "n.ipynb", {"seed": 4})
    assert notebooks.glued(tmp_path / "out" / "n.ipynb") == {"twice": "8.0", "name": "'x'"}
    assert notebooks.glued(path) == {}


def test_two_runs_give_equal_files(notebook, tmp_path):
    path = notebook("print(seed)")
    for name in ("a", "b"):
        notebooks.run_notebook(path, tmp_path / f"{name}.ipynb", {"seed": 3})
    assert (tmp_path / "a.ipynb").read_text() == (tmp_path / "b.ipynb").read_text()


def test_only_notebooks_of_the_study_are_run(notebook, smoke_file, tmp_path):
    study = load(smoke_file)
    foreign = notebook("print(seed)")
    own = study.home / "notebooks"
    own.mkdir(parents=True)
    (own / "mine.ipynb").write_text(foreign.read_text())
    (own / "link.ipynb").symlink_to(foreign)
    committed = REPOSITORY / "notebooks/03_baseline_comparison.ipynb"
    assert notebooks.source_of(study, "03_baseline_comparison").samefile(committed)
    assert notebooks.source_of(study, str(committed)).samefile(committed)
    assert notebooks.source_of(study, "mine").samefile(own / "mine.ipynb")
    for name in (
        str(foreign),
        str(foreign)[: -len(".ipynb")],
        "link",
        "../n",
        str(own / "../n.ipynb"),
        f"{foreign}/{'x' * 9000}",
    ):
        with pytest.raises(InputError, match=r"no notebook of this study\. Give the name of one in ") as error:
            notebooks.source_of(study, name)
        assert len(str(error.value)) < 1000
    for name in ("absent", "x" * 9000):
        with pytest.raises(InputError, match="no such notebook"):
            notebooks.run_chapter(study, "P53", notebooks.source_of(study, name), {})


def test_an_unknown_parameter_and_an_unknown_notebook_are_refused(notebook, tmp_path):
    path = notebook("print(seed)")
    with pytest.raises(InputError, match=r"unknown parameter 'sede'. It has seed"):
        notebooks.run_notebook(path, tmp_path / "out.ipynb", {"sede": 1})
    with pytest.raises(InputError, match=r"no such notebook. Known: n"):
        notebooks.run_notebook(tmp_path / "m.ipynb", tmp_path / "out.ipynb", {})
    assert not (tmp_path / "out.ipynb").exists()


def test_a_failing_notebook_leaves_no_file(notebook, tmp_path):
    path = notebook("raise ValueError('broken')")
    with pytest.raises(papermill.PapermillExecutionError, match="broken"):
        notebooks.run_notebook(path, tmp_path / "out.ipynb", {})
    assert [p.name for p in tmp_path.iterdir()] == ["n.ipynb"]


def test_a_figure_cell_that_draws_nothing_is_an_error(notebook, tmp_path):
    path = notebook(figure="pass")
    with pytest.raises(RuntimeError, match="fig-line should be one picture, the cell made 0"):
        notebooks.run_notebook(path, tmp_path / "out.ipynb", {})
