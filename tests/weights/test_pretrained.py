"""Pretrained weights are downloaded once from a real HTTP server, and then read from S3 by their hash."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from include.checkpoints.errors import UnsafeCheckpoint
from include.checkpoints.inspection.errors import InspectionError
from include.checkpoints.store import CheckpointStore
from include.s3.bucket import Bucket
from include.s3.errors import CorruptObject
from include.s3.reading import read_settled_object
from include.weights import pretrained
from include.weights.download import DownloadLimits
from include.weights.pretrained import PretrainedStore, WeightsUnavailable
from tests.support import crafted_checkpoints as craft
from tests.support.image_host import serving_images
from tests.support.release_server import QUICKLY, Release, md5_of, serving
from tests.support.tiny_models import architecture
from tests.support.untrained import best

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from include.s3.download import FetchedObject
    from include.s3.location import S3Location
    from include.stack.s3 import S3

NAME = "yolo11n.pt"


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the bytes of a pretrained file."""
    folder = tmp_path_factory.mktemp("weights")
    return best("detect", folder / NAME, architecture=architecture(folder)).read_bytes()


@pytest.fixture
def release(content: bytes) -> Iterator[Release]:
    with serving() as release:
        release.files[NAME] = content
        yield release


@pytest.fixture
def pretrained_store(s3_client: S3Client, bucket: str, release: Release) -> PretrainedStore:
    return PretrainedStore(Bucket(s3_client, bucket), release.url, QUICKLY)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _refusal(store: PretrainedStore, name: str = NAME) -> str:
    with pytest.raises(WeightsUnavailable) as refusal:
        store.require(name)
    sentence = str(refusal.value)
    assert "\n" not in sentence
    return sentence


def test_a_file_is_downloaded_once_and_pinned(
    pretrained_store: PretrainedStore, release: Release, content: bytes, s3_client: S3Client, bucket: str
) -> None:
    first = pretrained_store.require(NAME)
    assert first.path == f"s3://{bucket}/pretrained/{NAME}"
    assert first.sha256 == _sha256(content)
    release.files[NAME] = b"something else by now"
    assert pretrained_store.require(NAME) == first
    assert release.requested == [f"/v8.4.0/{NAME}"]
    metadata = s3_client.head_object(Bucket=bucket, Key=f"pretrained/{NAME}")["Metadata"]
    assert (metadata["sha256"], metadata["source"]) == (first.sha256, f"{release.url}/{NAME}")


def test_two_concurrent_runs_get_the_same_file(pretrained_store: PretrainedStore, content: bytes) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(pretrained_store.require, [NAME] * 4))
    assert {each.sha256 for each in found} == {_sha256(content)}


def test_redirects_are_followed(pretrained_store: PretrainedStore, release: Release, content: bytes) -> None:
    release.redirect_to = release.url.removesuffix("/v8.4.0")
    assert pretrained_store.require(NAME).sha256 == _sha256(content)
    assert release.requested[-1].startswith("/moved/")


def test_redirects_from_https_are_followed_to_https_only(
    s3_client: S3Client,
    bucket: str,
    release: Release,
    content: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serving_images(tmp_path) as host:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(host.certificate))
        host.files[f"/moved/v8.4.0/{NAME}"] = content
        store = PretrainedStore(Bucket(s3_client, bucket), host.url, QUICKLY)
        host.redirects[f"/{NAME}"] = f"{release.url}/{NAME}"
        release.redirect_to = host.url
        assert "is, or redirects to, an address that is not https" in _refusal(store)
        assert release.requested == []
        host.redirects[f"/{NAME}"] = f"/moved/v8.4.0/{NAME}"
        assert store.require(NAME).sha256 == _sha256(content)


def test_an_endless_redirect_is_refused(pretrained_store: PretrainedStore, release: Release) -> None:
    release.redirect_to = release.url.removesuffix("/v8.4.0") + "/v8.4.0/again"
    assert "redirects more than 5 times" in _refusal(pretrained_store)


def test_an_incomplete_download_is_not_stored(
    pretrained_store: PretrainedStore, release: Release, s3_client: S3Client, bucket: str
) -> None:
    release.cut = True
    sentence = _refusal(pretrained_store)
    assert "closed the connection after" in sentence
    assert len(release.requested) == QUICKLY.tries
    assert s3_client.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


@pytest.mark.parametrize("header", ["Content-MD5", "X-Checksum-Sha256"])
def test_bytes_that_do_not_match_the_servers_checksum_are_refused(
    pretrained_store: PretrainedStore, release: Release, content: bytes, header: str
) -> None:
    release.headers[header] = {"Content-MD5": md5_of(b"other"), "X-Checksum-Sha256": _sha256(b"other")}[
        header
    ]
    assert "sent bytes that do not match the checksum it sent" in _refusal(pretrained_store)
    release.headers[header] = {"Content-MD5": md5_of(content), "X-Checksum-Sha256": _sha256(content)}[header]
    assert pretrained_store.require(NAME).sha256 == _sha256(content)


def test_a_download_from_a_slow_server_is_abandoned_in_time(
    s3_client: S3Client, bucket: str, release: Release
) -> None:
    release.drip = 0.1
    hasty = PretrainedStore(Bucket(s3_client, bucket), release.url, replace(QUICKLY, seconds=1))
    assert "bytes in 1 seconds" in _refusal(hasty)


@pytest.mark.parametrize(
    ("status", "tries", "part"),
    [(404, 1, "does not exist (HTTP 404)"), (403, 1, "HTTP 403"), (503, 2, "HTTP 503")],
)
def test_a_file_that_the_server_refuses_is_reported_with_the_alternatives(
    pretrained_store: PretrainedStore, release: Release, status: int, tries: int, part: str
) -> None:
    release.status = status
    sentence = _refusal(pretrained_store)
    assert f"model='{NAME}' is not available: s3://" in sentence
    assert part in sentence
    for way in ("PRETRAINED_URL", f"`make pretrained FILE={NAME}`", "from scratch with model='yolo11n'"):
        assert way in sentence
    assert len(release.requested) == tries


@pytest.mark.parametrize("url", ["mirror.example/weights", "https:///weights"])
def test_a_url_without_a_scheme_or_a_host_is_refused(s3_client: S3Client, bucket: str, url: str) -> None:
    store = PretrainedStore(Bucket(s3_client, bucket), url, QUICKLY)
    assert f"{url}/{NAME} is not a valid URL" in _refusal(store)


def test_a_missing_server_is_reported_with_the_alternatives(s3_client: S3Client, bucket: str) -> None:
    store = PretrainedStore(Bucket(s3_client, bucket), "http://127.0.0.1:9", QUICKLY)
    sentence = _refusal(store)
    assert "cannot be reached" in sentence
    assert "Set PRETRAINED_URL to a mirror" in sentence


def test_nothing_is_downloaded_if_downloads_are_off(s3_client: S3Client, bucket: str) -> None:
    assert "PRETRAINED_URL is off" in _refusal(PretrainedStore(Bucket(s3_client, bucket), None))


def test_a_file_that_is_too_large_is_refused(s3_client: S3Client, bucket: str, release: Release) -> None:
    small = DownloadLimits(size=1024)
    assert "is larger than 1 KiB" in _refusal(PretrainedStore(Bucket(s3_client, bucket), release.url, small))


def test_a_file_that_is_not_a_checkpoint_is_not_stored(
    pretrained_store: PretrainedStore, release: Release, s3_client: S3Client, bucket: str
) -> None:
    release.files[NAME] = b"<html>Please log in</html>" * 10
    assert "is not a checkpoint" in _refusal(pretrained_store)
    assert s3_client.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_an_unpublished_name_is_not_requested(pretrained_store: PretrainedStore, release: Release) -> None:
    sentence = _refusal(pretrained_store, "yolov11n.pt")
    assert "nor published by Ultralytics 8." in sentence
    assert "give 'yolo11n.pt' if you mean that" in sentence
    assert release.requested == []


def test_a_file_stored_by_another_client_is_pinned(s3_client: S3Client, bucket: str, content: bytes) -> None:
    s3_client.put_object(Bucket=bucket, Key="pretrained/company.pt", Body=content)
    stored = PretrainedStore(Bucket(s3_client, bucket), None).require("company.pt")
    assert stored.sha256 == _sha256(content)
    head = s3_client.head_object(Bucket=bucket, Key="pretrained/company.pt")
    assert head["Metadata"]["sha256"] == stored.sha256


def _upload_in_parts(client: S3Client, bucket: str, key: str, content: bytes) -> None:
    """Upload as `aws s3 cp` uploads a large file: the ETag is then not the MD5 of the content."""
    upload = client.create_multipart_upload(Bucket=bucket, Key=key)
    at: Any = {"Bucket": bucket, "Key": key, "UploadId": upload["UploadId"]}
    part = client.upload_part(**at, PartNumber=1, Body=content)
    parts: Any = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    client.complete_multipart_upload(**at, MultipartUpload=parts)
    assert "-" in client.head_object(Bucket=bucket, Key=key)["ETag"]


@pytest.mark.parametrize("operation", ["GetObject", "CopyObject"])
def test_two_concurrent_runs_can_pin_the_same_file(
    s3: S3,
    s3_client: S3Client,
    bucket: str,
    content: bytes,
    monkeypatch: pytest.MonkeyPatch,
    operation: str,
) -> None:
    """The other run records the hash while this run inspects the file, or just before this run records it."""
    monkeypatch.setattr("include.s3.reading.REREAD_SECONDS", (0.0, 0.0))
    key, sha256 = "pretrained/company.pt", _sha256(content)
    _upload_in_parts(s3_client, bucket, key, content)
    client, others = s3.client(), iter([{"sha256": sha256, "epoch": "-1", "task": "detect"}])

    def pin(**_: object) -> None:
        for metadata in others:
            # A new ETag, as on AWS; SeaweedFS may keep the ETag if an object is copied onto itself.
            s3_client.put_object(Bucket=bucket, Key=key, Body=content, Metadata=metadata)

    client.meta.events.register(f"before-call.s3.{operation}", pin)
    assert PretrainedStore(Bucket(client, bucket), None).require("company.pt").sha256 == sha256
    assert next(others, None) is None


def test_a_file_replaced_after_its_inspection_is_not_pinned(
    s3_client: S3Client, bucket: str, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, unsafe = "pretrained/company.pt", craft.crafted(craft.call("os.system", craft.value("true")))
    s3_client.put_object(Bucket=bucket, Key=key, Body=content)

    def read_after_replacement(client: S3Client, location: S3Location) -> FetchedObject:
        client.put_object(Bucket=bucket, Key=key, Body=unsafe)
        return read_settled_object(client, location)

    monkeypatch.setattr(pretrained, "read_settled_object", read_after_replacement)
    with pytest.raises(UnsafeCheckpoint, match="was replaced while it was being read"):
        PretrainedStore(Bucket(s3_client, bucket), None).require("company.pt")
    assert "sha256" not in s3_client.head_object(Bucket=bucket, Key=key)["Metadata"]


def test_a_manually_stored_file_is_inspected_and_replaces_another_only_on_request(
    s3_client: S3Client, bucket: str, content: bytes, tmp_path: Path
) -> None:
    store = PretrainedStore(Bucket(s3_client, bucket), None)
    first, other = tmp_path / "a.pt", tmp_path / "b.pt"
    first.write_bytes(content)
    best("detect", other, classes=("cat",), architecture=architecture(tmp_path))
    assert store.put(first, "mine.pt").sha256 == _sha256(content)
    assert store.put(other, "mine.pt").sha256 == _sha256(content)
    assert store.put(other, "mine.pt", replace=True).sha256 == _sha256(other.read_bytes())
    other.write_bytes(b"no checkpoint")
    with pytest.raises(InspectionError):
        store.put(other, "mine.pt", replace=True)


def test_a_file_that_would_run_code_is_not_stored(
    pretrained_store: PretrainedStore, release: Release, s3_client: S3Client, bucket: str
) -> None:
    release.files[NAME] = craft.crafted(craft.call("os.system", craft.value("true")))
    assert "the file from http://" in _refusal(pretrained_store)
    assert s3_client.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


@pytest.mark.usefixtures("reread_at_once")
def test_a_worker_uses_only_the_bytes_that_the_job_started_from(
    pretrained_store: PretrainedStore,
    s3_client: S3Client,
    bucket: str,
    content: bytes,
    tmp_path: Path,
) -> None:
    stored, checkpoints = pretrained_store.require(NAME), CheckpointStore(Bucket(s3_client, bucket))
    fetched = checkpoints.fetch_object(stored.path, tmp_path / NAME, stored.sha256)
    assert fetched.read_bytes() == content
    s3_client.put_object(Bucket=bucket, Key=f"pretrained/{NAME}", Body=content + b"x")
    with pytest.raises(CorruptObject, match=f"but the job started from {stored.sha256}: the file has been"):
        checkpoints.fetch_object(stored.path, tmp_path / "again.pt", stored.sha256)
    assert not (tmp_path / "again.pt").exists()


def test_finding_weights_needs_neither_torch_nor_ultralytics(
    release: Release, s3: S3, bucket: str, content: bytes
) -> None:
    program = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "torchvision", "ultralytics", "numpy", "cv2", "polars"}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
import boto3
import include.weights.initial
from include.s3.bucket import Bucket
from include.weights.pretrained import PretrainedStore
bucket, url = sys.argv[1:]
print(PretrainedStore(Bucket(boto3.client("s3"), bucket), url).require("yolo11n.pt").sha256)
"""
    keys = {
        "AWS_ENDPOINT_URL_S3": s3.endpoint_url,
        "AWS_ACCESS_KEY_ID": s3.access_key,
        "AWS_SECRET_ACCESS_KEY": s3.secret_key,
        "AWS_DEFAULT_REGION": s3.region,
    }
    found = subprocess.run(
        [sys.executable, "-c", program, bucket, release.url],
        cwd=Path(__file__).parents[2],
        env=os.environ | keys,
        check=True,
        capture_output=True,
        text=True,
    )
    assert found.stdout.strip() == _sha256(content)
