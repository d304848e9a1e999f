"""Initial weights are read from any bucket, and inspected before they are fetched."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from include.checkpoints.errors import UnsafeCheckpoint
from include.checkpoints.store import CheckpointStore
from include.s3.errors import ObjectNotFound
from tests.support.crafted_checkpoints import archive, call, checkpoint, crafted, pickled, tensor

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def test_initial_weights_are_fetched_from_any_bucket(
    store: CheckpointStore, client: S3Client, bucket: str, tmp_path: Path
) -> None:
    client.put_object(Bucket=bucket, Key="models/모델 1.pt", Body=crafted())
    uri = f"s3://{bucket}/models/모델 1.pt"

    assert store.require_checkpoint(uri).classes == ("box", "arrow")
    fetched = store.fetch_object(uri, tmp_path / "inputs" / "start.pt")

    assert fetched.read_bytes() == crafted()


def test_a_model_that_could_run_code_is_refused_before_it_is_fetched(
    store: CheckpointStore, client: S3Client, bucket: str
) -> None:
    uri = f"s3://{bucket}/model.pt"
    client.put_object(Bucket=bucket, Key="model.pt", Body=crafted(call("os.system", "true")))

    with pytest.raises(UnsafeCheckpoint, match=rf"{uri} names os\.system, .* do not load it"):
        store.require_checkpoint(uri)


def test_only_the_description_of_a_large_model_is_read(
    client: S3Client, bucket: str, store: CheckpointStore
) -> None:
    content = pickled(checkpoint(exact={"live": tensor(5_000_000, key="1")}))
    body = archive(content, {"data/1": bytes(20_000_000)})
    client.put_object(Bucket=bucket, Key="model.pt", Body=body)
    read: list[int] = []

    def count(parsed: dict[str, int], **_: object) -> None:
        read.append(parsed["ContentLength"])

    client.meta.events.register("after-call.s3.GetObject", count)
    try:
        store.require_checkpoint(f"s3://{bucket}/model.pt")
    finally:
        client.meta.events.unregister("after-call.s3.GetObject", count)

    assert 0 < sum(read) < 100_000


def test_a_model_that_is_too_large_is_refused_and_not_fetched(
    store: CheckpointStore, client: S3Client, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("include.checkpoints.store.WEIGHTS_BYTES", 100)
    monkeypatch.setattr("include.checkpoints.inspection.in_s3.WEIGHTS_BYTES", 100)
    client.put_object(Bucket=bucket, Key="model.pt", Body=crafted())
    uri = f"s3://{bucket}/model.pt"

    for ask in (store.require_checkpoint, lambda uri: store.fetch_object(uri, tmp_path / "start.pt")):
        with pytest.raises(UnsafeCheckpoint, match=r"may have at most 100; give a best\.pt"):
            ask(uri)
    assert not list(tmp_path.iterdir())


def test_a_missing_model_is_named(store: CheckpointStore, bucket: str, tmp_path: Path) -> None:
    uri = f"s3://{bucket}/models/gone.pt"

    with pytest.raises(ObjectNotFound, match=uri):
        store.require_checkpoint(uri)
    with pytest.raises(ObjectNotFound, match=uri):
        store.fetch_object(uri, tmp_path / "start.pt")


@pytest.mark.parametrize(
    "uri", ["https://example.org/a.pt", "s3://bucket", "s3://bucket/", "s3:///a.pt", "a.pt"]
)
def test_an_invalid_object_uri_is_refused(store: CheckpointStore, uri: str) -> None:
    with pytest.raises(ValueError, match=r"write s3://<bucket>/<key>"):
        store.require_checkpoint(uri)
