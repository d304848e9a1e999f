"""Pretrained weights are uploaded through the API for all jobs, or refused with a reason."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import requests

from include.api import pretrained
from include.checkpoints.writer import ObjectWriter
from tests.support.cutting_proxy import CuttingProxy
from tests.support.soft_limit import soft_limit
from tests.support.tiny_models import architecture
from tests.support.untrained import best
from tests.support.waiting import until

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from include.checkpoints.stored import StoredCheckpoint
    from include.s3.location import S3Location
    from include.stack.s3 import S3

Store = Callable[..., requests.Response]


@pytest.fixture
def put_weights(api_url: str) -> Store:
    def send(content: bytes, name: str = "own.pt", **query: str) -> requests.Response:
        return requests.put(f"{api_url}/pretrained/{name}", data=content, params=query, timeout=60)

    return send


@pytest.fixture
def weights(tmp_path: Path) -> bytes:
    return best("detect", tmp_path / "own.pt", architecture=architecture(tmp_path)).read_bytes()


@pytest.fixture
def other(tmp_path: Path) -> bytes:
    file = best("detect", tmp_path / "other.pt", ("x", "y"), architecture=architecture(tmp_path))
    return file.read_bytes()


def hash_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_file_is_stored_with_its_hash_and_listed(
    put_weights: Store, weights: bytes, api_url: str, s3_client: S3Client, bucket: str
) -> None:
    answer = put_weights(weights)
    place = f"s3://{bucket}/pretrained/own.pt"
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"name": "own.pt", "path": place, "sha256": hash_of(weights)}
    stored = s3_client.get_object(Bucket=bucket, Key="pretrained/own.pt")
    assert (stored["Body"].read(), stored["Metadata"]["sha256"]) == (weights, hash_of(weights))
    s3_client.put_object(Bucket=bucket, Key="pretrained/notes.txt", Body=b"not weights")
    listed = requests.get(f"{api_url}/pretrained", timeout=60).json()
    assert [(each["name"], each["size"]) for each in listed["files"]] == [("own.pt", len(weights))]
    assert listed["truncated"] is False


def test_the_name_is_the_one_that_jobs_use(
    put_weights: Store, weights: bytes, s3_client: S3Client, bucket: str
) -> None:
    assert put_weights(weights, "YOLO11N.pt").json()["name"] == "yolo11n.pt"
    s3_client.head_object(Bucket=bucket, Key="pretrained/yolo11n.pt")


def test_other_content_is_replaced_only_on_request(
    put_weights: Store, weights: bytes, other: bytes, s3_client: S3Client, bucket: str
) -> None:
    put_weights(weights)
    assert put_weights(weights).status_code == 200
    refused = put_weights(other)
    assert refused.status_code == 409
    assert hash_of(weights) in refused.json()["detail"]
    assert s3_client.get_object(Bucket=bucket, Key="pretrained/own.pt")["Body"].read() == weights
    assert put_weights(other, replace="true").json()["sha256"] == hash_of(other)
    assert s3_client.get_object(Bucket=bucket, Key="pretrained/own.pt")["Body"].read() == other


def test_stored_content_that_is_not_a_checkpoint_is_named_and_can_be_replaced(
    put_weights: Store, weights: bytes, s3_client: S3Client, bucket: str
) -> None:
    s3_client.put_object(Bucket=bucket, Key="pretrained/own.pt", Body=b"of another client")
    refused = put_weights(weights)
    assert refused.status_code == 409, refused.text
    assert "own.pt is already stored, but cannot be compared" in refused.json()["detail"]
    assert "is not a checkpoint" in refused.json()["detail"]
    assert put_weights(weights, replace="true").json()["sha256"] == hash_of(weights)


def test_a_file_that_is_deleted_during_the_comparison_is_named(
    put_weights: Store, weights: bytes, s3_client: S3Client, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_weights(weights)
    find = ObjectWriter.find

    def find_and_delete(writer: ObjectWriter, location: S3Location) -> StoredCheckpoint | None:
        found = find(writer, location)
        s3_client.delete_object(Bucket=bucket, Key=location.key)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(ObjectWriter, "find", find_and_delete)
        refused = put_weights(weights)
    assert refused.status_code == 409, refused.text
    assert "own.pt was deleted while" in refused.json()["detail"]
    assert put_weights(weights).status_code == 200


def test_storing_survives_three_cut_connections(
    put_weights: Store, weights: bytes, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    with CuttingProxy(s3.endpoint_url, sent=16 * 1024, cuts=3) as proxy:
        connection = json.loads(os.environ["AIRFLOW_CONN_TRAINING_S3"])
        connection["extra"]["endpoint_url"] = proxy.endpoint_url
        monkeypatch.setenv("AIRFLOW_CONN_TRAINING_S3", json.dumps(connection))
        answer = put_weights(weights)
    assert (answer.status_code, proxy.cuts) == (200, 3), answer.text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("own.pt", b"no checkpoint", "is not a checkpoint"),
        ("own.pt", b"", "is not a checkpoint"),
        ("own.onnx", b"", "is not a valid name for a weights file"),
        (".hidden.pt", b"", "starting with a letter or a digit"),
        ("yolo26n", b"", "is not a valid name for a weights file"),
        ("sam_b.pt", b"", "is a kind of model that train_yolo does not train"),
        ("..%2Fcheckpoints%2Fa%2Fbest.pt", b"", "own.pt"),
    ],
)
def test_a_file_that_cannot_be_stored_is_refused_with_the_reason(
    put_weights: Store, s3_client: S3Client, bucket: str, name: str, content: bytes, message: str
) -> None:
    answer = put_weights(content, name)
    assert answer.status_code in {404, 422}
    assert answer.status_code == 404 or message in answer.json()["detail"]
    assert s3_client.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_a_file_whose_upload_is_interrupted_is_not_stored(
    api_url: str, weights: bytes, s3_client: S3Client, bucket: str
) -> None:
    def broken() -> Iterator[bytes]:
        yield weights[: len(weights) // 2]
        raise ConnectionError

    with pytest.raises(requests.ConnectionError):
        requests.put(f"{api_url}/pretrained/own.pt", data=broken(), timeout=60)
    assert s3_client.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


@contextmanager
def silent_client(api_url: str, sent: int = 1) -> Iterator[socket.socket]:
    """Yield a client that sends the first bytes of a file, and then nothing."""
    address = urlsplit(api_url)
    head = f"PUT {address.path}/pretrained/slow.pt HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\n"
    with socket.create_connection((address.hostname, address.port), 30) as connection:
        connection.sendall(head.encode() + b"x" * sent)
        yield connection


def test_a_silent_client_is_cut_off(api_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "_SILENT_SECONDS", 0.5)
    with silent_client(api_url) as connection:
        answer = connection.recv(4096)
    assert answer.startswith(b"HTTP/1.1 408 "), answer


def test_a_client_that_falls_silent_after_a_fast_start_is_cut_off(
    api_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrained, "_SILENT_SECONDS", 0.5)
    monkeypatch.setattr(pretrained, "_MIN_BYTES_PER_SECOND", 1)
    with silent_client(api_url, sent=90_000) as connection:
        answer = connection.recv(4096)
    assert answer.startswith(b"HTTP/1.1 408 "), answer


def test_a_third_upload_is_told_to_retry_while_two_are_running(
    put_weights: Store, weights: bytes, api_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrained, "_WAIT_SECONDS", 0.2)
    with silent_client(api_url), silent_client(api_url):
        # The server runs in this process. Wait for both uploads, or the third could start before them.
        until(lambda: pretrained._UPLOADS.borrowed_tokens == 2, "both send", 30, pause=0.05)
        assert put_weights(weights).status_code == 503
    until(lambda: put_weights(weights).status_code == 200, "a turn", 30)


@pytest.mark.parametrize(
    ("method", "path"),
    [("PUT", "pretrained/own.pt"), ("GET", "pretrained"), ("DELETE", "jobs/a"), ("POST", "jobs/a/archive")],
)
def test_an_unknown_parameter_of_a_route_is_refused(api_url: str, method: str, path: str) -> None:
    given = {"confirm": "a"} if method == "DELETE" else {}
    answer = requests.request(method, f"{api_url}/{path}", params=given | {"dry_run": "true"}, timeout=60)
    assert (answer.status_code, answer.json()["detail"]) == (422, "Unknown parameter dry_run.")


def test_a_full_disk_is_reported(
    put_weights: Store, weights: bytes, s3_client: S3Client, bucket: str
) -> None:
    """Let this process, in which the API server runs, write files of at most one memory page."""
    with soft_limit(resource.RLIMIT_FSIZE, os.sysconf("SC_PAGE_SIZE")):
        answer = put_weights(weights)
    assert answer.status_code == 507
    assert "cannot store the file" in answer.json()["detail"]
    assert s3_client.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_a_machine_without_a_folder_for_temporary_files_is_reported(
    put_weights: Store, weights: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    answer = put_weights(weights)
    assert answer.status_code == 507, answer.text
    assert "cannot store the file" in answer.json()["detail"]
