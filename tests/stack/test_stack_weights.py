"""`make pretrained` stores a file for all jobs, or gives the reason for refusing it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from include.checkpoints.checkpoint import hash_file
from include.deployment.settings import DEFAULT_BUCKET
from include.stack.errors import StackError
from include.stack.local import Stack
from include.stack.s3 import S3
from include.stack.steps import Steps
from include.stack.weights import store_weights
from tests.support.tiny_models import architecture
from tests.support.untrained import best

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@pytest.fixture
def client(s3: S3, s3_client: S3Client) -> S3Client:
    if DEFAULT_BUCKET not in {each["Name"] for each in s3_client.list_buckets()["Buckets"]}:
        s3_client.create_bucket(Bucket=DEFAULT_BUCKET)
    return s3_client


def test_a_file_is_stored_under_its_name_with_its_hash(
    stack: Stack, client: S3Client, tmp_path: Path
) -> None:
    file = best("detect", tmp_path / "by-hand.pt", architecture=architecture(tmp_path))
    store_weights(stack, Steps.quiet(), file)
    head = client.head_object(Bucket=DEFAULT_BUCKET, Key="pretrained/by-hand.pt")
    assert head["Metadata"]["sha256"] == hash_file(file)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("absent.pt", None, "does not exist"),
        ("text.pt", b"no checkpoint", "is not a checkpoint"),
        ("yolo26n.onnx", b"", "is not a valid name for a weights file"),
        ("yolo26n", b"", "is not a valid name for a weights file"),
        ("sam_b.pt", b"", "is a kind of model that train_yolo does not train"),
    ],
)
def test_a_file_that_cannot_be_stored_is_refused_with_the_reason(
    stack: Stack, client: S3Client, tmp_path: Path, name: str, content: bytes | None, sentence: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(StackError, match=sentence):
        store_weights(stack, Steps.quiet(), tmp_path / name)


def test_a_stack_that_is_not_running_is_reported(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"The stack is not running\. Start it with `make up`"):
        store_weights(Stack.at(tmp_path / "other"), Steps.quiet(), tmp_path / "x.pt")
