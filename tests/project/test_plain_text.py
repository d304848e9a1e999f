"""Characters that move the cursor, are invisible or reverse text: refused in names, escaped elsewhere."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, cast

import psycopg
import pytest
import requests
from psycopg.types.json import Jsonb
from rich.console import Console

from include.audit.findings import AuditFinding, FindingKind
from include.audit.report import AuditReport
from include.jobs.repository import JobRepository
from include.plain_text import escape_all_controls, escape_controls, is_plain_line
from include.stack.s3 import S3
from include.stack.steps import Steps
from tests.support.airflow_connections import lead_to
from tests.support.jobs import claim

RED, TURNED = "\x1b[31m", "\u202e"
NASTY = f"{RED}cat{TURNED}gpj.exe\x9b\u2066\r"
HARMLESS = "ein Wörtchen, 日本語, \u0641\u0627\u0631\u0633\u06cc\u200c\u0647\u0627\n\tand 👩\u200d🚀"
SEEN = r"\x1b[31mcat\u202egpj.exe\x9b\u2066\r"


def test_characters_that_control_a_terminal_are_escaped() -> None:
    assert escape_controls(NASTY) == SEEN
    assert escape_controls("\ud800") == r"\ud800"
    assert escape_controls(HARMLESS) == HARMLESS
    assert escape_all_controls({NASTY: [NASTY, 1, None]}) == {SEEN: [SEEN, 1, None]}
    assert is_plain_line("metrics/mAP50(B)")
    assert not any(map(is_plain_line, (NASTY, "two\nlines", "\u200b", "tab\t")))


@pytest.fixture
def url(
    connection: psycopg.Connection[Any],
    migrated_url: str,
    s3: S3,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    open_api: str,
) -> str:
    """Return the API's URL, after storing a job and a model version with control characters in texts."""
    lead_to(monkeypatch, migrated_url, s3, "bucket", tmp_path)
    claim(JobRepository(connection), "a")
    connection.execute(
        "UPDATE training_jobs SET error = %(text)s, triggered_by = %(text)s, inexact_reason = %(text)s, "
        "metrics = %(metrics)s, spec = spec || %(spec)s",
        {"text": NASTY, "metrics": Jsonb({NASTY: 0.5}), "spec": Jsonb({"dataset": NASTY, "model": NASTY})},
    )
    connection.execute(
        "INSERT INTO model_versions (name, version, job_id, path, sha256, size, reason, promoted_by) "
        "VALUES ('m', 1, 'a', 's3://bucket/best.pt', 'abc', 1, %(text)s, %(text)s)",
        {"text": NASTY},
    )
    connection.commit()
    return open_api


def _unescaped(value: Any) -> list[str]:
    match value:
        case str():
            return [] if escape_controls(value) == value else [value]
        case dict():
            return [each for pair in value.items() for part in pair for each in _unescaped(part)]
        case list():
            return [each for part in value for each in _unescaped(part)]
    return []


@pytest.mark.parametrize("path", ["/jobs", "/jobs/a", "/jobs/a/lineage", "/models", "/models/m/1"])
def test_the_api_returns_control_characters_escaped(url: str, path: str) -> None:
    answer = requests.get(f"{url}{path}", timeout=60)
    assert answer.status_code == 200
    assert _unescaped(answer.json()) == []
    if "lineage" not in path:
        assert SEEN in str(answer.json()).replace("\\\\", "\\")


@pytest.mark.parametrize("path", [f"/jobs/{NASTY}", f"/models?name={NASTY}&{NASTY}=1", f"/{NASTY}"])
def test_an_error_repeats_control_characters_escaped(url: str, path: str) -> None:
    answer = requests.get(f"{url}{path}", timeout=60)
    assert answer.status_code in {404, 422}
    assert _unescaped(answer.json()) == []


@pytest.mark.parametrize("field", ["dag_id", "run_id", "metrics"])
def test_a_completion_with_control_characters_is_refused(url: str, field: str) -> None:
    paths = {f"{kind}_checkpoint_path": f"s3://bucket/checkpoints/a/{kind}.pt" for kind in ("best", "last")}
    given = {NASTY: 0.5} if field == "metrics" else NASTY
    answer = requests.post(f"{url}/jobs/a/completion", json=paths | {field: given}, timeout=60)
    assert answer.status_code == 422
    assert f"{field}=" in answer.json()["detail"]
    assert "contains control characters" in answer.json()["detail"]


def test_output_to_a_terminal_is_escaped() -> None:
    output = io.StringIO()
    Steps(Console(file=output, force_terminal=True, highlight=False)).say(NASTY)
    assert output.getvalue().strip() == SEEN


def test_an_audit_reports_a_key_with_control_characters_on_one_line() -> None:
    report = AuditReport()
    path = f"s3://bucket/checkpoints/{NASTY}\n# All is well"
    report.add(AuditFinding(FindingKind.MISSING, path=path, detail=f"{path} is not there"))
    lines = report.to_markdown().splitlines()
    assert [line for line in lines if line.startswith("#")] == [
        "# Audit of checkpoints",
        "## Missing: a row names an object that does not exist",
    ]
    assert _unescaped(cast("Any", lines)) == []
    assert _unescaped(report.failure) == []
