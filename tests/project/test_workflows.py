"""The files for GitHub and for editors are valid, and run only existing programs and targets."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"
WORKFLOWS = sorted(GITHUB.glob("workflows/*.yml"))
FORMS = sorted(path for path in GITHUB.glob("ISSUE_TEMPLATE/*.yml") if path.name != "config.yml")
DEV_CONTAINER = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def steps_of(workflow: Path) -> list[dict[str, Any]]:
    jobs = yaml.safe_load(workflow.read_text())["jobs"]
    return [step for job in jobs.values() for step in job.get("steps", [])]


def test_the_expected_workflows_and_forms_exist() -> None:
    names = {path.name for path in WORKFLOWS}
    assert names == {"audit.yml", "ci.yml", "nightly.yml", "release.yml"}
    assert {path.name for path in FORMS} == {"bug.yml", "feature.yml"}


@pytest.mark.parametrize("path", sorted(GITHUB.rglob("*.yml")), ids=lambda path: path.name)
def test_every_file_for_github_is_valid_yaml(path: Path) -> None:
    assert isinstance(yaml.safe_load(path.read_text()), dict)


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_runs_only_existing_programs_and_targets(workflow: Path) -> None:
    commands = "\n".join(step["run"] for step in steps_of(workflow) if "run" in step)
    for program in re.findall(r"\.ci/[\w./-]+", commands):
        assert (ROOT / program).is_file(), program
    assert set(re.findall(r"\bmake ([a-z-]+)", commands)) <= TARGETS


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_is_pinned_to_a_major_version_or_a_commit(workflow: Path) -> None:
    jobs = yaml.safe_load(workflow.read_text())["jobs"]
    used = [step["uses"] for step in steps_of(workflow) if "uses" in step]
    used += [job["uses"] for job in jobs.values() if "uses" in job]
    assert used
    for action in used:
        if action.startswith("./"):
            assert (ROOT / action).is_file(), action
        else:
            assert re.fullmatch(r"[\w-]+/[\w-]+@(v\d+|[0-9a-f]{40})", action), action


def test_ci_runs_the_local_checks_on_the_oldest_and_the_newest_python() -> None:
    job = yaml.safe_load((GITHUB / "workflows" / "ci.yml").read_text())["jobs"]["check"]
    assert [step["run"] for step in job["steps"] if step.get("name") == "Lint and test"] == [".ci/run"]
    supported = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    oldest, after_newest = re.findall(r"3\.(\d+)", supported)
    assert job["strategy"]["matrix"]["python"] == [f"3.{oldest}", f"3.{int(after_newest) - 1}"]


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.name)
def test_an_issue_form_has_the_fields_that_github_requires(form: Path) -> None:
    document = yaml.safe_load(form.read_text())
    assert {"name", "description", "body"} <= set(document)
    fields = [field for field in document["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in fields}) == len(fields)
    assert all(field["attributes"]["label"] for field in fields)


def test_a_bug_report_requires_the_status_and_the_task_log() -> None:
    body = yaml.safe_load((GITHUB / "ISSUE_TEMPLATE" / "bug.yml").read_text())["body"]
    required = {field.get("id") for field in body if field.get("validations", {}).get("required")}
    assert {"status", "log"} <= required


def test_updates_wait_for_a_week() -> None:
    updates = yaml.safe_load((GITHUB / "dependabot.yml").read_text())["updates"]
    assert {each["package-ecosystem"] for each in updates} == {"github-actions", "npm", "uv"}
    assert all(each["cooldown"]["default-days"] == 7 for each in updates)


def test_the_dev_container_is_set_up_by_an_existing_target() -> None:
    assert re.findall(r"make ([a-z-]+)", DEV_CONTAINER["postCreateCommand"]) == ["setup-dev"]
    assert "setup-dev" in TARGETS


def release_notes(tag: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ".ci/release_notes.py", tag]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_the_notes_of_a_release_are_its_section_of_the_changelog() -> None:
    written = release_notes(f"v{VERSION}")
    assert written.returncode == 0, written.stderr
    assert "### Added" in written.stdout
    assert "## [" not in written.stdout
    newest = max(path.name for path in (ROOT / "sql/migrations/versions").glob("0*.py"))
    assert f"Schema revision: `{newest[:4]}`" in written.stdout


def test_a_tag_that_does_not_match_the_version_is_not_released() -> None:
    refused = release_notes("v99.0.0")
    assert refused.returncode == 1
    assert f"the tag must be v{VERSION}" in refused.stderr
    assert refused.stdout == ""


def test_the_changelog_begins_with_the_unreleased_changes() -> None:
    headings = re.findall(
        r"^## \[(.+?)\](?: - (\d{4}-\d\d-\d\d))?$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    assert headings[0] == ("Unreleased", "")
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) and date for version, date in headings[1:])
