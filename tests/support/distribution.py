"""Distributes the tests over the processes of a test run; tests that share a server stay together."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

GROUPS = {"airflow_stack": "trainings", "api_stack": "pages"}
"""The groups of tests that share an Airflow, by the fixture that starts it."""

SHARING = {"tracking"}
"""The folders whose tests share another server that takes seconds to start: MLflow."""


@cache
def airflow_of(path: str) -> str | None:
    """Return the fixture that starts the Airflow of a file's tests, if they need one."""
    text = Path(path).read_text(encoding="utf-8")
    return next((fixture for fixture in GROUPS if fixture in text), None)


def group_of(path: str) -> str:
    """Return the group that runs in one process: all tests that share a server, or the tests of one file.

    So only one process has a scheduler, which keeps a quarter of a core busy even with nothing to schedule.
    """
    if fixture := airflow_of(path):
        return GROUPS[fixture]
    folder = Path(path).parent
    return str(folder) if folder.name in SHARING else path


class TogetherByServices(LoadScopeScheduling):  # type: ignore[misc]
    """Distributes groups of tests, by `group_of`, over the processes."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(str(self.config.rootpath / nodeid.partition("::")[0]))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> TogetherByServices:
    """Return our own scheduler, because xdist's groups have no effect with pytest 9.2."""
    return TogetherByServices(config, log)


LONGEST = (
    "test_exact_batches.py",
    "test_distributed.py",
    "test_killed_trainer.py",
    "test_faults.py",
    "test_watchdog.py",
)
"""The test files that need no Airflow and take longest."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the longest groups first, so that none runs in one process while the others are idle."""

    def rank(item: pytest.Item) -> int:
        if (group := group_of(str(item.path))) in GROUPS.values():
            return [*GROUPS.values()].index(group)
        return 2 if item.path.name in LONGEST else 3

    items.sort(key=rank)
