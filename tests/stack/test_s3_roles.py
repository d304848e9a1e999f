"""On the real server, each role may do in the bucket exactly what its policy allows."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import requests
from botocore.exceptions import ClientError

from include.deployment.connections import create_s3_signer
from include.s3.bucket import Bucket
from include.s3.conditional_writes import Support, probe_conditional_writes, require_conditional_writes
from include.s3.errors import StoreAccessDenied
from include.s3.layout import PROBE_KEY
from include.s3.location import S3Location
from include.s3.signed_links import sign_download
from include.stack import processes
from include.stack.errors import StackError
from include.stack.private_files import write_private
from include.stack.s3 import S3, S3Ports
from include.stack.s3_identities import Keys, Role, build_policy, read_keys, render_identities
from tests.support.airflow_connections import lead_to
from tests.support.stacks import reachable_directory
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from mypy_boto3_s3 import S3Client

KEYS = {
    "checkpoints/a/best.pt",
    "checkpoints/a/last.pt",
    "checkpoints/a/last.previous.pt",
    "datasets/jobs/a.json",
    "models/m/production/best.pt",
    "pictures/a/results.png",
    "pretrained/yolo26n.pt",
    "reports/a/dataset.json",
    "uploads/u/.upload.json",
    "uploads/u/data.zip",
    "elsewhere.txt",
}
"""Object keys of every kind."""


def below(*prefixes: str) -> set[str]:
    return {key for key in KEYS if key.startswith(prefixes)}


WRITTEN = {
    Role.OWNER: KEYS,
    Role.WORKER: below("checkpoints/", "datasets/", "models/", "pictures/", "pretrained/", "reports/"),
    Role.API: below("pretrained/", "uploads/"),
    Role.MAINTENANCE: below("checkpoints/", "models/", "uploads/u/.upload.json"),
}
DELETED = {
    Role.OWNER: KEYS,
    Role.WORKER: below("pictures/"),
    Role.API: below("uploads/"),
    Role.MAINTENANCE: below("checkpoints/", "datasets/", "pictures/", "reports/", "uploads/"),
}


@pytest.fixture
def filled_bucket(s3_client: S3Client, bucket: str) -> str:
    """Store an object of each kind in the bucket; return its name."""
    for key in KEYS:
        s3_client.put_object(Bucket=bucket, Key=key, Body=b"1234")
    return bucket


def allowed(ask: Callable[..., Any], **arguments: Any) -> bool:
    """Return whether the server allows the request. Raises errors other than a denial."""
    try:
        ask(**arguments)
    except ClientError as error:
        if error.response["Error"]["Code"] not in {"AccessDenied", "403"}:
            raise
        return False
    return True


@pytest.mark.parametrize("role", Role)
def test_a_role_reads_everything_and_writes_and_deletes_only_its_own_keys(
    s3: S3, filled_bucket: str, role: Role
) -> None:
    client = s3.client(role)
    assert {item["Key"] for item in client.list_objects_v2(Bucket=filled_bucket)["Contents"]} == KEYS
    for key in KEYS:
        assert client.get_object(Bucket=filled_bucket, Key=key)["Body"].read() == b"1234"
        assert client.head_object(Bucket=filled_bucket, Key=key)["ContentLength"] == 4
    written = {key for key in KEYS if allowed(client.put_object, Bucket=filled_bucket, Key=key, Body=b"5678")}
    assert written == WRITTEN[role]
    deleted = {key for key in KEYS if allowed(client.delete_object, Bucket=filled_bucket, Key=key)}
    assert deleted == DELETED[role]


@pytest.mark.parametrize("role", Role)
def test_a_role_deletes_in_bulk_only_objects_that_it_may_delete(
    s3: S3, filled_bucket: str, role: Role
) -> None:
    answer = s3.client(role).delete_objects(
        Bucket=filled_bucket, Delete={"Objects": [{"Key": key} for key in sorted(KEYS)]}
    )
    assert {each["Key"] for each in answer.get("Deleted", [])} == DELETED[role]
    assert {each["Key"] for each in answer.get("Errors", [])} == KEYS - DELETED[role]


@pytest.mark.parametrize("role", Role)
def test_a_role_uploads_in_parts_only_objects_that_it_may_write(s3: S3, bucket: str, role: Role) -> None:
    client, owner = s3.client(role), s3.client()
    for key in sorted(KEYS):
        place: Any = {"Bucket": bucket, "Key": key}
        sent = allowed(client.create_multipart_upload, **place)
        assert sent == (key in WRITTEN[role]), key
        began = owner.create_multipart_upload(**place)["UploadId"]
        part: Any = place | {"UploadId": began}
        assert sent == allowed(client.upload_part, **part, PartNumber=1, Body=b"x"), key
    aborts = {Role.MAINTENANCE: below("checkpoints/", "models/", "pretrained/", "uploads/")}.get(
        role, WRITTEN[role]
    )
    for upload in owner.list_multipart_uploads(Bucket=bucket)["Uploads"]:
        part = {"Bucket": bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
        assert allowed(client.abort_multipart_upload, **part) == (upload["Key"] in aborts), upload
        with suppress(owner.exceptions.NoSuchUpload):
            owner.abort_multipart_upload(**part)


@pytest.mark.parametrize(
    ("role", "parts", "uploads"),
    [(Role.WORKER, False, False), (Role.API, True, False), (Role.MAINTENANCE, False, True)],
)
def test_only_the_api_lists_parts_of_an_upload_and_only_the_audit_lists_uploads(
    s3: S3, bucket: str, role: Role, parts: bool, uploads: bool
) -> None:
    place: Any = {"Bucket": bucket, "Key": "uploads/u/data.zip"}
    place["UploadId"] = s3.client().create_multipart_upload(**place)["UploadId"]
    client = s3.client(role)
    try:
        assert allowed(client.list_parts, **place) == parts
        assert allowed(client.list_multipart_uploads, Bucket=bucket) == uploads
    finally:
        s3.client().abort_multipart_upload(**place)


@pytest.mark.parametrize("role", sorted(set(Role) - {Role.OWNER}))
def test_only_the_owner_uses_other_buckets_and_changes_this_one(
    s3: S3, filled_bucket: str, role: Role
) -> None:
    owner, client = s3.client(), s3.client(role)
    other = "private-" + filled_bucket.removeprefix("test-")
    owner.create_bucket(Bucket=other)
    owner.put_object(Bucket=other, Key="checkpoints/a/best.pt", Body=b"1")
    policy = '{"Version": "2012-10-17", "Statement": []}'
    operations: dict[str, Callable[[], Any]] = {
        "list": lambda: client.list_objects_v2(Bucket=other),
        "read": lambda: client.get_object(Bucket=other, Key="checkpoints/a/best.pt"),
        "write": lambda: client.put_object(Bucket=other, Key="checkpoints/a/best.pt", Body=b"2"),
        "delete": lambda: client.delete_object(Bucket=other, Key="checkpoints/a/best.pt"),
        "create": lambda: client.create_bucket(Bucket=f"{filled_bucket}-more"),
        "remove": lambda: client.delete_bucket(Bucket=filled_bucket),
        "open": lambda: client.put_bucket_policy(Bucket=filled_bucket, Policy=policy),
        "cors": lambda: client.delete_bucket_cors(Bucket=filled_bucket),
        "versioning": lambda: client.put_bucket_versioning(
            Bucket=filled_bucket, VersioningConfiguration={"Status": "Suspended"}
        ),
        "copy": lambda: client.copy_object(
            Bucket=filled_bucket,
            Key="pictures/a/stolen.png" if role is Role.WORKER else "uploads/u/.upload.json",
            CopySource={"Bucket": other, "Key": "checkpoints/a/best.pt"},
        ),
    }
    try:
        assert [name for name, ask in operations.items() if allowed(ask)] == []
    finally:
        owner.delete_object(Bucket=other, Key="checkpoints/a/best.pt")
        owner.delete_bucket(Bucket=other)


def test_the_api_adds_metadata_to_a_checkpoint_and_no_bytes(s3: S3, filled_bucket: str) -> None:
    client = s3.client(Role.API)

    def copy(source: str, to: str, directive: Any = "REPLACE") -> bool:
        return allowed(
            client.copy_object,
            Bucket=filled_bucket,
            Key=to,
            CopySource={"Bucket": filled_bucket, "Key": source},
            MetadataDirective=directive,
            Metadata={"sha256": "0"},
        )

    assert copy("checkpoints/a/best.pt", "checkpoints/a/best.pt")
    assert client.head_object(Bucket=filled_bucket, Key="checkpoints/a/best.pt")["Metadata"] == {
        "sha256": "0"
    }
    assert not copy("uploads/u/data.zip", "checkpoints/a/best.pt")
    assert not copy("checkpoints/a/last.pt", "checkpoints/a/last.previous.pt")
    assert not copy("checkpoints/a/best.pt", "checkpoints/a/last.pt", "COPY")
    assert not copy("checkpoints/a/best.pt", "models/m/production/best.pt")


def test_a_link_that_the_api_signs_can_only_read_its_object(
    s3: S3, filled_bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lead_to(monkeypatch, "postgresql://nobody@127.0.0.1:1/none", s3, filled_bucket, tmp_path, Role.API)
    link = sign_download(
        create_s3_signer(None), S3Location(filled_bucket, "checkpoints/a/best.pt"), "best.pt", 60
    )
    assert requests.get(link, timeout=30).content == b"1234"
    other = link.replace("checkpoints/a/best.pt", "checkpoints/a/last.pt")
    assert requests.get(other, timeout=30).status_code == 403
    assert {ask(link, timeout=30).status_code for ask in (requests.put, requests.delete)} == {403}


def test_workers_can_probe_conditional_writes_and_maintenance_can_probe_conditional_deletions(
    s3: S3, bucket: str
) -> None:
    place = Bucket(s3.client(Role.WORKER), bucket)
    require_conditional_writes(place)
    assert probe_conditional_writes(place).delete is Support.UNKNOWN
    maintained = probe_conditional_writes(Bucket(s3.client(Role.MAINTENANCE), bucket))
    assert maintained.list_problems() == []
    assert maintained.delete is Support.HONOURED
    assert place.head(PROBE_KEY) is not None


def test_a_denied_deletion_names_the_connection_that_may_delete(s3: S3, filled_bucket: str) -> None:
    place = Bucket(s3.client(Role.WORKER), filled_bucket)
    with pytest.raises(StoreAccessDenied, match="only those of training_s3_maintenance may delete the rest"):
        place.delete("checkpoints/a/last.pt")
    with pytest.raises(StoreAccessDenied, match="only those of training_s3_maintenance may delete the rest"):
        place.delete_below("checkpoints/")


def test_a_policy_names_the_bucket_that_it_is_rendered_for() -> None:
    policy = build_policy(Role.API, ["mine"])
    assert "training-checkpoints" not in str(policy)
    assert "arn:aws:s3:::mine/uploads/*" in str(policy)
    assert "'mine/checkpoints/*'" in str(policy)


@pytest.fixture
def own_s3() -> Iterator[S3]:
    """Yield an S3 server whose keys a test may replace."""
    with reachable_directory() as directory:
        keys = {role: Keys(f"{role}-key", f"{role}-secret") for role in Role}
        server = S3(directory, S3Ports.choose(), keys, ("test-*",))
        server.start()
        try:
            yield server
        finally:
            server.stop()


def test_keys_are_replaced_while_the_server_runs(own_s3: S3) -> None:
    own_s3.ensure_bucket("test-rotation")
    old, new = own_s3.keys[Role.WORKER], Keys("new-key", "new-secret")

    def writes(keys: Keys) -> bool:
        server = replace(own_s3, keys={**own_s3.keys, Role.WORKER: keys})
        try:
            # An empty object: on a busy machine, a new server needs half a minute before it can store bytes.
            server.client(Role.WORKER).put_object(
                Bucket="test-rotation", Key="checkpoints/a/last.pt", Body=b""
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "InvalidAccessKeyId":
                raise
            return False
        return True

    def accept(*keys: Keys) -> None:
        accepted = {role: [pair] for role, pair in own_s3.keys.items()} | {Role.WORKER: list(keys)}
        write_private(own_s3.identities, render_identities(accepted, own_s3.buckets))
        process = processes.find_process(own_s3.service)
        assert process is not None
        process.send_signal(signal.SIGHUP)

    assert (writes(old), writes(new)) == (True, False)
    accept(old, new)
    until(lambda: writes(new), "the server accepts the new keys, too")
    assert writes(old)
    accept(new)
    until(lambda: not writes(old), "the server refuses the old keys")
    assert writes(new)


def test_keys_of_a_deployment_are_read_from_its_environment() -> None:
    given = {
        f"S3_{role.upper()}_{part}": f"{role}-{part}"
        for role in Role
        for part in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY")
    }
    keys = read_keys(given | {"S3_PREVIOUS_KEYS": "worker:old:secret"})
    assert keys[Role.WORKER] == [
        Keys("worker-ACCESS_KEY_ID", "worker-SECRET_ACCESS_KEY"),
        Keys("old", "secret"),
    ]
    assert keys[Role.API] == [Keys("api-ACCESS_KEY_ID", "api-SECRET_ACCESS_KEY")]
    for wrong in ("worker:old", "cook:old:secret"):
        with pytest.raises(
            StackError, match="S3_PREVIOUS_KEYS must be a comma-separated list of role:access_key:secret_key"
        ):
            read_keys(given | {"S3_PREVIOUS_KEYS": wrong})
    with pytest.raises(StackError, match="S3_API_ACCESS_KEY_ID or S3_API_SECRET_ACCESS_KEY is not set"):
        read_keys(given | {"S3_API_SECRET_ACCESS_KEY": ""})
