import pytest

from hsa.files import write_json
from hsa.reporting import speed

ROWS = [
    {"benchmark": "readers", "row": "aligned tiles", "value": 4000.0, "unit": "tiles a CPU s", "against": "OpenSlide",
     "ratio": 4.2, "spread": [4.0, 4.4]},
    {"benchmark": "masks", "row": "memory", "value": 120.0, "unit": "MB", "against": None,
     "ratio": None, "spread": None},
]  # fmt: skip


@pytest.fixture
def results(tmp_path):
    machine = {"cpu": "A chip", "cores": 2, "system": "Linux", "python": "3.11.1"}
    told = {
        "machine": machine,
        "date": "2026-11-26T23:00:00+00:00",
        "commit": "abcdef0123",
        "clean": True,
        "repeats": 5,
    }
    write_json(tmp_path / "results.json", told | {"rows": ROWS})
    return tmp_path / "results.json"


def test_the_page_names_machine_commit_and_every_row(results):
    told = speed.fragments(results)["speed.md"]
    assert "A chip, 2 cores, Linux, Python 3.11.1" in told
    assert "2026-11-26 at commit `abcdef0`." in told
    assert "| readers | aligned tiles | 4000 tiles a CPU s | OpenSlide | 4.20 (4.00 to 4.40) |" in told
    assert "| masks | memory | 120 MB |  |  |" in told


def test_the_figure_holds_what_has_a_ratio(results, tmp_path):
    speed.draw(results, tmp_path)
    assert (tmp_path / "speed.png").is_file()
    assert "aligned tiles" in (tmp_path / "speed.csv").read_text()
    assert "memory" not in (tmp_path / "speed.csv").read_text()


def test_a_copy_without_measurements_says_so(tmp_path):
    assert "`make bench` makes them" in speed.fragments(tmp_path / "no.json")["speed.md"]
    speed.draw(tmp_path / "no.json", tmp_path)
    assert not list(tmp_path.iterdir())
