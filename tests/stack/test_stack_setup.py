"""`make` on a machine where something is missing, and the lock."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

REPOSITORY = Path(__file__).parents[2]
SHORT_LISTS = sorted(REPOSITORY.glob("requirements*.in"))
PIN = re.compile(r"^([a-z0-9][a-z0-9-]*)==([^\s;]+)", re.MULTILINE)


def _make(directory: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(directory), **variables}
    return subprocess.run(
        ["make", *arguments], cwd=directory, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture
def fresh_clone(tmp_path: Path) -> Path:
    """What the set-up needs of the repository, without an environment."""
    shutil.copy(REPOSITORY / "Makefile", tmp_path)
    (tmp_path / "include" / "stack").mkdir(parents=True)
    shutil.copy(REPOSITORY / "include" / "stack" / "bootstrap.py", tmp_path / "include" / "stack")
    (tmp_path / "requirements.txt").write_text("rich==15.0.0\n")
    return tmp_path


def test_a_python_that_is_not_there_is_named(fresh_clone: Path) -> None:
    made = _make(fresh_clone, "setup", "PYTHON=python2.6")
    assert made.returncode != 0
    assert "python2.6 is no working Python, but Python 3.11, 3.12 or 3.13 is needed" in made.stderr


def test_an_index_that_cannot_be_reached_is_named(fresh_clone: Path) -> None:
    made = _make(fresh_clone, "setup", PIP_INDEX_URL="http://127.0.0.1:9/simple", PIP_RETRIES="0")
    assert made.returncode != 0
    assert "The package index http://127.0.0.1:9/simple cannot be reached" in made.stderr


@pytest.mark.parametrize("command", ["env", "down", "status"])
def test_without_a_set_up_the_way_to_begin_is_said(fresh_clone: Path, command: str) -> None:
    made = _make(fresh_clone, command)
    assert made.returncode != 0
    assert made.stdout == ""
    assert "Start with: make demo" in made.stderr


@pytest.mark.parametrize("short_list", SHORT_LISTS, ids=lambda path: path.name)
def test_the_lock_fulfils_the_short_list(short_list: Path) -> None:
    own = short_list.with_suffix(".txt")
    lock = own if own.exists() else REPOSITORY / "requirements.txt"
    pins: dict[str, list[Version]] = {}
    for package, version in PIN.findall(lock.read_text()):
        pins.setdefault(package, []).append(Version(version))

    for line in short_list.read_text().splitlines():
        text = line.partition("#")[0].strip()
        if text and not text.startswith("-"):
            wanted = Requirement(text)
            pinned = pins.get(wanted.name.lower().replace("_", "-"), [])
            assert pinned, f"{wanted.name} of {short_list.name} is not in {lock.name}: run make lock"
            assert all(wanted.specifier.contains(each) for each in pinned), f"{wanted}: run make lock"
