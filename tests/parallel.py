"""How tests are shared among processes (`pytest -n 2`): file by file, the long ones first."""

from collections import defaultdict
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling


class ByFile(LoadScopeScheduling):
    """Gives a file's tests to one process, so that what they share is made once. All of the smoke study share a run."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::")[0]
        return "smoke" if file.startswith("tests/smoke/") else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """Take files in the order in which they were collected, and not by their numbers of tests."""
    config.option.loadscopereorder = False
    return ByFile(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the smoke study first and then files with slow tests, where several processes share the tests.

    What takes minutes would else begin when the rest is done, and one process would wait for the other.
    """
    if hasattr(config, "workerinput"):
        names = defaultdict(set)
        for item in items:
            names[item.path] |= {mark.name for mark in item.iter_markers()}
        items.sort(key=lambda item: 0 if "smoke" in names[item.path] else 1 if "slow" in names[item.path] else 2)
