"""A server that ignores conditions on writes is detected before anything depends on them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from include.audit.audit import find_unfenced
from include.audit.findings import FindingKind
from include.s3.bucket import Bucket
from include.s3.conditional_writes import (
    probe_conditional_writes,
    require_conditional_deletes,
    require_conditional_writes,
    require_verified_writes,
)
from include.s3.errors import ConditionsNotHonoured
from include.s3.layout import PROBE_KEY
from include.tasks.train_yolo import resolve_config
from tests.support.airflow_connections import context_of_run, lead_to
from tests.support.auditing import HONOURED

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from include.jobs.repository import JobRepository
    from include.stack.s3 import S3

Ignoring = Callable[..., "S3Client"]


@pytest.fixture
def ignoring(s3: S3) -> Ignoring:
    """Open a client that drops conditions, and the SHA-256, from these operations.

    The real server then seems to ignore them.
    """

    def open_client(*operations: str) -> S3Client:
        client = s3.client()

        def drop_conditions(params: dict[str, Any], **_: object) -> None:
            params.pop("IfMatch", None)
            params.pop("IfNoneMatch", None)
            params.pop("ChecksumSHA256", None)

        for operation in operations:
            client.meta.events.register(f"before-parameter-build.s3.{operation}", drop_conditions)
        return client

    return open_client


def test_a_server_that_honours_conditions_passes_repeated_probes(s3_client: S3Client, bucket: str) -> None:
    assert [probe_conditional_writes(Bucket(s3_client, bucket)) for _ in range(2)] == [HONOURED] * 2
    require_conditional_writes(Bucket(s3_client, bucket))
    require_conditional_deletes(Bucket(s3_client, bucket))
    (left,) = s3_client.list_objects_v2(Bucket=bucket)["Contents"]
    assert left["Key"] == PROBE_KEY
    assert "Uploads" not in s3_client.list_multipart_uploads(Bucket=bucket)


@pytest.mark.parametrize(
    ("operation", "problem"),
    [
        ("PutObject", "does not refuse a PUT whose condition does not hold"),
        ("CompleteMultipartUpload", "does not refuse the completion of a multipart upload whose"),
    ],
)
def test_nothing_is_trained_on_a_server_that_ignores_conditions(
    ignoring: Ignoring, bucket: str, operation: str, problem: str
) -> None:
    with pytest.raises(ConditionsNotHonoured, match=f"{problem}.*Do not train on this server"):
        require_conditional_writes(Bucket(ignoring(operation), bucket))


def test_no_job_begins_on_a_server_that_ignores_conditions(
    ignoring: Ignoring,
    jobs: JobRepository,
    monkeypatch: pytest.MonkeyPatch,
    migrated_url: str,
    s3: S3,
    bucket: str,
    tmp_path: Path,
) -> None:
    lead_to(monkeypatch, migrated_url, s3, bucket, tmp_path)
    monkeypatch.setattr("include.deployment.connections.create_s3_client", lambda **_: ignoring("PutObject"))
    with pytest.raises(AirflowFailException, match="Do not train on this server"):
        resolve_config(context_of_run("run1", {"job_id": "a", "dataset": "digits"}))
    assert jobs.get("a") is None


def test_a_server_that_ignores_the_condition_of_a_copy_causes_a_warning(
    ignoring: Ignoring, bucket: str, caplog: pytest.LogCaptureFixture
) -> None:
    require_conditional_writes(Bucket(ignoring("CopyObject"), bucket))
    assert "does not honour the condition of a copy" in caplog.text


def test_nothing_is_trained_on_a_server_that_does_not_compare_bytes_with_their_sha256(
    ignoring: Ignoring, bucket: str
) -> None:
    require_verified_writes(Bucket(ignoring(), bucket))
    with pytest.raises(
        ConditionsNotHonoured, match=r"do not match the SHA-256 .*Do not store training states on this server"
    ):
        require_verified_writes(Bucket(ignoring("PutObject"), bucket))


def test_no_state_is_deleted_on_a_server_that_ignores_the_condition_of_a_deletion(
    ignoring: Ignoring, bucket: str
) -> None:
    with pytest.raises(ConditionsNotHonoured, match="does not refuse a deletion"):
        require_conditional_deletes(Bucket(ignoring("DeleteObject"), bucket))


def test_the_audit_reports_each_kind_of_write_whose_condition_is_not_honoured(
    ignoring: Ignoring, bucket: str
) -> None:
    found = probe_conditional_writes(Bucket(ignoring("CopyObject", "DeleteObject"), bucket))
    findings = list(find_unfenced(bucket, found))
    assert [finding.kind for finding in findings] == [FindingKind.UNFENCED] * 2
    assert "does not refuse a copy" in findings[0].detail
    assert "does not refuse a deletion" in findings[1].detail
