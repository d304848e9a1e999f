"""Tests whose browser or proxy is missing are skipped and listed at the end; CI installs both."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


TESTS = """
def test_of_a_page(chromium): ...
def test_of_a_proxy(nginx): ...
def test_of_neither(): ...
"""


def test_tests_whose_program_is_missing_are_skipped_and_listed(tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text(TESTS)
    missing = {"CHROMIUM": "/nowhere/chromium", "NGINX": "/nowhere/nginx"}
    plugins = ("-p", "tests.support.browsing", "-p", "tests.support.nginx")
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", *plugins, "test_a.py"],
        cwd=tmp_path,
        env=os.environ | missing | {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stdout
    assert "1 passed, 2 skipped" in finished.stdout
    for name, test in {"Chromium": "test_of_a_page", "nginx": "test_of_a_proxy"}.items():
        summary = finished.stdout.partition(f"tests that were left out without {name}")[2]
        assert (
            f"test_a.py::{test}\n1 tests need {name}, and there is none (/nowhere/{name.lower()})" in summary
        )
        assert f"`apt-get install {name.lower()}" in summary


PROGRAMS = {
    "make": "#!/bin/sh\necho make $* >>done",
    "sudo": "#!/bin/sh\nexit 1",
    "id": "#!/bin/sh\necho ${USER_ID}",
}

INSTALL = "apt-get --quiet --yes install --no-install-recommends"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a checkout; `bin` has all programs that `.ci/run` finds, and `done` lists what it ran."""
    (tmp_path / "bin").mkdir()
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci")
    for name, text in PROGRAMS.items():
        _program(tmp_path, name, text)
    for name in ("bash", "dirname", "env", "sh", "timeout"):
        (tmp_path / "bin" / name).symlink_to(str(shutil.which(name)))
    return tmp_path


def _program(machine: Path, name: str, text: str = "#!/bin/sh\necho $0 $* >>done") -> None:
    path = machine / "bin" / name
    path.write_text(text.replace("$0", name))
    path.chmod(0o755)


def _run(machine: Path, user: int = 0) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": str(machine / "bin"), "USER_ID": str(user)}
    return subprocess.run([machine / ".ci" / "run"], env=environment, capture_output=True, text=True)


def _did(machine: Path) -> list[str]:
    return (machine / "done").read_text().splitlines()


def test_ci_installs_missing_programs_before_the_tests(checkout: Path) -> None:
    _program(checkout, "apt-get")
    assert _run(checkout).returncode == 0
    assert _did(checkout) == [
        "apt-get --quiet --yes update",
        f"{INSTALL} chromium-headless-shell fonts-liberation",
        f"{INSTALL} nginx-light",
        "make lint",
        "make test",
    ]


@pytest.mark.parametrize("installed", [[], ["chromium"]])
def test_ci_uses_chromium_if_there_is_no_headless_shell(checkout: Path, installed: list[str]) -> None:
    refusing = "#!/bin/sh\necho $0 $* >>done\ncase $* in *headless*) exit 100; esac"
    for name in ["nginx", *installed]:
        _program(checkout, name)
    _program(checkout, "apt-get", refusing)
    assert _run(checkout).returncode == 0
    instead = [] if installed else [f"{INSTALL} chromium fonts-liberation"]
    assert _did(checkout)[2:] == [*instead, "make lint", "make test"]


def test_ci_continues_if_nothing_can_be_installed(checkout: Path) -> None:
    _program(checkout, "apt-get", "#!/bin/sh\nexit 100")
    finished = _run(checkout)
    assert finished.returncode == 0
    for packages in ("chromium-headless-shell fonts-liberation", "chromium fonts-liberation", "nginx-light"):
        assert f"\n{packages} could not be installed." in f"\n{finished.stderr}"
    assert _did(checkout) == ["make lint", "make test"]


def test_ci_never_asks_for_a_password(checkout: Path) -> None:
    _program(checkout, "apt-get")
    finished = _run(checkout, user=1000)
    assert finished.returncode == 0
    assert _did(checkout) == ["make lint", "make test"]


@pytest.mark.parametrize("installed", [("apt-get", "chromium-headless-shell", "nginx"), ()])
def test_ci_installs_nothing_if_it_need_not_or_cannot(checkout: Path, installed: tuple[str, ...]) -> None:
    for name in installed:
        _program(checkout, name)
    assert _run(checkout).returncode == 0
    assert _did(checkout) == ["make lint", "make test"]
