"""The commit hook refuses messages that would be of no use to readers of the log."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

HOOK = Path(__file__).parents[2] / ".ci" / "commit-msg"
BODY = "\n\nThe listing read each row twice.\n"


@pytest.fixture
def change(tmp_path: Path) -> Path:
    """Return a repository in which eleven new lines are staged."""
    (tmp_path / "file").write_text("line\n" * 11)
    for command in (["init", "--quiet"], ["add", "file"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    return tmp_path


def check(repository: Path, message: str) -> subprocess.CompletedProcess[str]:
    (repository / "message").write_text(message)
    return subprocess.run([HOOK, "message"], cwd=repository, capture_output=True, text=True)


@pytest.mark.parametrize("subject", ["Read each row once", "x" * 72])
def test_a_subject_and_a_body_are_accepted(change: Path, subject: str) -> None:
    accepted = check(change, subject + BODY)
    assert accepted.returncode == 0, accepted.stderr


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("x" * 73 + BODY, "the subject has 73 characters"),
        ("# only a comment\n", "the subject has 0 characters"),
        ("Read each row once\nbecause it was read twice.\n", "the second line is not blank"),
        ("Read each row once\n", "11 lines change; say below the subject what and why"),
        ("Read each row once\n\n# Changes to be committed:\n#\tnew file: file\n", "11 lines change"),
    ],
)
def test_a_malformed_message_is_refused_with_the_reason(change: Path, message: str, reason: str) -> None:
    refused = check(change, message)
    assert refused.returncode == 1
    assert reason in refused.stderr


def test_a_small_change_needs_no_body(change: Path) -> None:
    (change / "file").write_text("line\n")
    subprocess.run(["git", "add", "file"], cwd=change, check=True)
    assert check(change, "Correct a word\n").returncode == 0


@pytest.mark.parametrize("subject", ["Merge branch 'work'", "fixup! Read each row once", 'Revert "Read"'])
def test_messages_that_git_writes_itself_are_accepted(change: Path, subject: str) -> None:
    assert check(change, subject + "\n").returncode == 0


def test_ci_checks_every_commit_of_a_range(change: Path) -> None:
    def commit(message: str) -> None:
        author = ["-c", "user.name=A", "-c", "user.email=a@example"]
        subprocess.run(
            ["git", *author, "commit", "--quiet", "--no-verify", "-m", message], cwd=change, check=True
        )

    def check_since(base: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([HOOK, f"{base}..HEAD"], cwd=change, capture_output=True, text=True)

    commit("Add the file")
    for number, message in enumerate(("x" * 80, "Read each row once")):
        (change / "file").write_text(f"{number}\n")
        subprocess.run(["git", "add", "file"], cwd=change, check=True)
        commit(message + BODY)

    assert check_since("HEAD~1").returncode == 0
    refused = check_since("HEAD~2")
    assert refused.returncode == 1
    assert "the subject has 80 characters" in refused.stderr
