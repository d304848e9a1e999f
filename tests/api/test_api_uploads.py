"""Datasets are uploaded straight to S3; interrupted uploads continue, and verified ones never change."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psycopg
import pytest
import requests
from pydantic import ValidationError

from include.api.uploads import UploadBody
from include.audit.uploads import find_abandoned_uploads
from include.datasets.uploads.errors import UploadUnknown
from include.datasets.uploads.plan import UploadFile, plan_upload
from include.datasets.uploads.store import UploadStore
from include.limits import UPLOAD_FILES, UPLOAD_PART
from include.registry.objects import lock_objects
from include.registry.repository import DatasetRepository
from include.s3.bucket import Bucket
from tests.support.registered_datasets import register
from tests.support.stored_objects import keys

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Ask = Callable[..., requests.Response]

LARGE = bytes(range(256)) * (UPLOAD_PART // 256) + b"the second part"
FOLDER = {"data.yaml": b"names: [a]", "images/train/ä 1.jpg": b"jpeg", "labels/train/ä 1.txt": b""}


@pytest.fixture
def ask_uploads(api_url: str) -> Ask:
    """Send a request to the routes of uploads."""

    def send(method: str, path: str = "", body: Any = None) -> requests.Response:
        return requests.request(method, f"{api_url}/uploads{path}", json=body, timeout=60)

    return send


def begin(ask: Ask, files: dict[str, bytes]) -> dict[str, Any]:
    announced = [{"path": path, "size": len(content)} for path, content in files.items()]
    answer = ask("POST", body={"files": announced})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def sign(ask: Ask, upload_id: str, *parts: tuple[int, int]) -> list[dict[str, Any]]:
    wanted = [{"file": file, "part": part} for file, part in parts]
    answer = ask("POST", f"/{upload_id}/parts", {"parts": wanted})
    assert answer.status_code == 200, answer.text
    return list(answer.json()["links"])


def send(link: dict[str, Any], content: bytes) -> int:
    return requests.put(link["url"], data=content, headers=link["headers"], timeout=60).status_code


def cut_off(link: dict[str, Any], content: bytes, arrived: int) -> None:
    """Start to send the content, and close the connection after `arrived` bytes."""
    url = urlsplit(link["url"])
    headers = {"Host": url.netloc, "Content-Length": len(content)} | link["headers"]
    lines = [f"PUT {url.path}?{url.query} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    with socket.create_connection((url.hostname, url.port)) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + content[:arrived])
        connection.shutdown(socket.SHUT_WR)
        connection.recv(2**16)  # wait until S3 has handled the request


def send_all(ask: Ask, upload: dict[str, Any], files: dict[str, bytes]) -> None:
    """Send the parts that have not arrived, as a browser does."""
    state = ask("GET", f"/{upload['upload_id']}").json()
    missing = [
        (index, number)
        for index, file in enumerate(state["files"])
        for number in range(1, file["parts"] + 1)
        if number not in file["arrived"]
    ]
    for link in sign(ask, upload["upload_id"], *missing) if missing else ():
        start = (link["part"] - 1) * UPLOAD_PART
        content = files[state["files"][link["file"]]["path"]][start : start + UPLOAD_PART]
        assert send(link, content) == 200


def test_an_interrupted_upload_continues_with_the_missing_parts(
    ask_uploads: Ask, s3_client: S3Client, bucket: str
) -> None:
    files = {"set.zip": LARGE}
    upload = begin(ask_uploads, files)
    upload_id = upload["upload_id"]
    (file,) = upload["files"]
    assert (file["part_size"], file["parts"], file["arrived"]) == (UPLOAD_PART, 2, [])
    (link,) = sign(ask_uploads, upload_id, (0, 2))
    assert send(link, LARGE[UPLOAD_PART:]) == 200
    (file,) = ask_uploads("GET", f"/{upload_id}").json()["files"]
    assert file["arrived"] == [2]
    send_all(ask_uploads, upload, files)
    answer = ask_uploads("POST", f"/{upload_id}/complete")
    source = f"s3://{bucket}/uploads/{upload_id}/set.zip"
    assert answer.json() == {"upload_id": upload_id, "source": source}
    stored = s3_client.get_object(Bucket=bucket, Key=f"uploads/{upload_id}/set.zip")["Body"].read()
    assert stored == LARGE
    state = ask_uploads("GET", f"/{upload_id}").json()
    assert (state["source"], state["files"][0]["arrived"]) == (source, [1, 2])


@pytest.mark.parametrize("arrived", [0, 1], ids=["the headers", "and a byte"])
def test_a_file_whose_sender_was_cut_off_is_sent_again(ask_uploads: Ask, arrived: int) -> None:
    upload = begin(ask_uploads, FOLDER)
    first, *_ = sign(ask_uploads, upload["upload_id"], (1, 1))
    cut_off(first, FOLDER["images/train/ä 1.jpg"], arrived)
    send_all(ask_uploads, upload, FOLDER)
    assert ask_uploads("POST", f"/{upload['upload_id']}/complete").status_code == 200


def test_an_uploaded_folder_is_referenced_by_its_prefix(
    ask_uploads: Ask, s3_client: S3Client, bucket: str
) -> None:
    upload = begin(ask_uploads, FOLDER)
    send_all(ask_uploads, upload, FOLDER)
    prefix = f"uploads/{upload['upload_id']}/"
    answer = ask_uploads("POST", f"/{upload['upload_id']}/complete")
    assert answer.json()["source"] == f"s3://{bucket}/{prefix}"
    for path, content in FOLDER.items():
        assert s3_client.get_object(Bucket=bucket, Key=prefix + path)["Body"].read() == content


def test_an_upload_with_a_missing_part_is_not_completed(
    ask_uploads: Ask, s3_client: S3Client, bucket: str
) -> None:
    upload = begin(ask_uploads, FOLDER | {"images/large.tif": LARGE})
    first, *_ = sign(ask_uploads, upload["upload_id"], (3, 1))
    assert send(first, LARGE[:UPLOAD_PART]) == 200
    answer = ask_uploads("POST", f"/{upload['upload_id']}/complete")
    assert answer.status_code == 409
    assert "4 of 4 files have not arrived as announced ('data.yaml'" in answer.json()["detail"]
    assert keys(s3_client, bucket) == {f"uploads/{upload['upload_id']}/.upload.json"}
    send_all(ask_uploads, upload, FOLDER | {"images/large.tif": LARGE})
    assert ask_uploads("POST", f"/{upload['upload_id']}/complete").status_code == 200


@pytest.mark.parametrize(
    "content",
    [LARGE[: UPLOAD_PART - 1], LARGE[: UPLOAD_PART + 1], b""],
    ids=["a byte less", "a byte more", "nothing"],
)
def test_s3_refuses_a_file_whose_size_differs_from_the_announced_one(
    ask_uploads: Ask, content: bytes
) -> None:
    upload = begin(ask_uploads, {"set.zip": LARGE})
    (link,) = sign(ask_uploads, upload["upload_id"], (0, 1))
    assert send(link, content) in {400, 403}
    assert ask_uploads("GET", f"/{upload['upload_id']}").json()["files"][0]["arrived"] == []


def test_a_complete_upload_never_changes(ask_uploads: Ask, s3_client: S3Client, bucket: str) -> None:
    upload = begin(ask_uploads, FOLDER)
    upload_id = upload["upload_id"]
    (kept,) = sign(ask_uploads, upload_id, (0, 1))
    send_all(ask_uploads, upload, FOLDER)
    completed = ask_uploads("POST", f"/{upload_id}/complete")
    assert ask_uploads("POST", f"/{upload_id}/complete").json() == completed.json()
    assert send(kept, b"names: [b]") == 412
    key = f"uploads/{upload_id}/data.yaml"
    assert s3_client.get_object(Bucket=bucket, Key=key)["Body"].read() == FOLDER["data.yaml"]
    signed = ask_uploads("POST", f"/{upload_id}/parts", {"parts": [{"file": 0, "part": 1}]})
    assert signed.status_code == 409
    assert key in keys(s3_client, bucket)


def test_two_clients_that_complete_an_upload_simultaneously_get_the_same_answer(ask_uploads: Ask) -> None:
    upload = begin(ask_uploads, {"set.zip": LARGE})
    send_all(ask_uploads, upload, {"set.zip": LARGE})
    answers: list[requests.Response] = []
    threads = [
        threading.Thread(
            target=lambda: answers.append(ask_uploads("POST", f"/{upload['upload_id']}/complete"))
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {each.status_code for each in answers} == {200}, [each.text for each in answers]
    assert len({each.json()["source"] for each in answers}) == 1


def test_only_the_user_who_began_an_upload_may_continue_it(
    ask_uploads: Ask, s3_client: S3Client, bucket: str
) -> None:
    store = UploadStore(Bucket(s3_client, bucket))
    upload_id = store.begin(plan_upload([UploadFile(path="set.zip", size=3)], "grace")).upload_id
    part = {"parts": [{"file": 0, "part": 1}]}
    for answer in (
        ask_uploads("GET", f"/{upload_id}"),
        ask_uploads("POST", f"/{upload_id}/parts", part),
        ask_uploads("POST", f"/{upload_id}/complete"),
        ask_uploads("DELETE", f"/{upload_id}"),
    ):
        assert answer.status_code == 403
        assert "was started by grace: only the person who started an upload" in answer.json()["detail"]
    assert store.find(upload_id).completed_at is None


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["../set.zip"], "it leads outside through '..'"),
        (["/etc/set.zip"], "it is an absolute path"),
        (["C:\\set.zip"], "it contains a backslash"),
        (["a//set.zip"], "it has an empty component"),
        (["./set.zip"], "write it as 'set.zip'"),
        (["a\nb.zip"], "it contains a control character"),
        (["a/" * 65 + "set.zip"], "more than 64 folders deep"),
        (["a" * 256 + ".zip"], "a component is longer than 255 bytes"),
        ([".upload.json", "a.jpg"], "is a hidden file or a cache"),
        (["labels/train.cache", "a.jpg"], "is a hidden file or a cache"),
        (["a.jpg", "a.jpg"], "is given twice"),
        (["a", "a/b.jpg"], "is a file and also a folder of other files"),
        (["set.tar.gz"], "alone is not a dataset: send a .zip or .ndjson file"),
        ([], "files is empty"),
        ([f"{number}.jpg" for number in range(UPLOAD_FILES + 1)], "more than the limit of 20,000"),
    ],
)
def test_files_that_cannot_be_uploaded_are_refused_before_anything_is_signed(
    ask_uploads: Ask, s3_client: S3Client, bucket: str, paths: list[str], message: str
) -> None:
    answer = ask_uploads("POST", body={"files": [{"path": path, "size": 1} for path in paths]})
    assert answer.status_code == 422
    assert message in answer.json()["detail"]
    assert keys(s3_client, bucket) == set()


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([-1], "greater than or equal to 0"),
        ([2**60], "less than or equal to"),
        ([2**35] * 2, "64 GiB in total, more than the limit of 50 GiB"),
        ([UPLOAD_PART + 1] * 501, "501 files are larger than 16 MiB"),
    ],
)
def test_too_many_bytes_are_refused(ask_uploads: Ask, sizes: list[int], message: str) -> None:
    files = [{"path": f"{number}.zip", "size": size} for number, size in enumerate(sizes)]
    answer = ask_uploads("POST", body={"files": files})
    assert answer.status_code == 422
    assert message in answer.json()["detail"]


def test_a_part_that_an_upload_does_not_have_is_not_signed(ask_uploads: Ask) -> None:
    upload_id = begin(ask_uploads, {"set.zip": LARGE})["upload_id"]
    for part in ({"file": 1, "part": 1}, {"file": 0, "part": 3}, {"file": -1, "part": 1}):
        assert ask_uploads("POST", f"/{upload_id}/parts", {"parts": [part]}).status_code == 422
    assert (
        ask_uploads("POST", f"/{upload_id}/parts", {"parts": [{"file": 0, "part": 1}] * 101}).status_code
        == 422
    )


@pytest.mark.parametrize(
    "upload_id", ["20260101-000000-0123456789abcdef", "..%2F..%2Fcheckpoints", "x", "%2e%2e"]
)
def test_an_unknown_upload_is_not_found(ask_uploads: Ask, upload_id: str) -> None:
    for method, path in (("GET", ""), ("POST", "/complete"), ("DELETE", "")):
        assert ask_uploads(method, f"/{upload_id}{path}").status_code in {404, 405}


def test_an_aborted_upload_leaves_nothing_behind(ask_uploads: Ask, s3_client: S3Client, bucket: str) -> None:
    files = FOLDER | {"images/large.tif": LARGE}
    upload = begin(ask_uploads, files)
    upload_id = upload["upload_id"]
    for link in sign(ask_uploads, upload_id, (0, 1), (3, 1)):
        content = FOLDER["data.yaml"] if link["file"] == 0 else LARGE[:UPLOAD_PART]
        assert send(link, content) == 200
    assert ask_uploads("DELETE", f"/{upload_id}").status_code == 204
    assert keys(s3_client, bucket) == set()
    assert s3_client.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []
    assert ask_uploads("GET", f"/{upload_id}").status_code == 404


def test_a_complete_upload_is_deleted_unless_a_dataset_or_a_job_uses_it(
    ask_uploads: Ask, datasets: DatasetRepository, s3_client: S3Client, bucket: str
) -> None:
    refused, registered = begin(ask_uploads, FOLDER), begin(ask_uploads, FOLDER)
    for upload in (refused, registered):
        send_all(ask_uploads, upload, FOLDER)
        source = ask_uploads("POST", f"/{upload['upload_id']}/complete").json()["source"]
    register(datasets, "parts", "a", source=source)
    kept = ask_uploads("DELETE", f"/{registered['upload_id']}")
    assert kept.status_code == 409
    assert "is used by a version of a dataset or by a job" in kept.json()["detail"]
    assert ask_uploads("DELETE", f"/{refused['upload_id']}").status_code == 204
    assert {key.split("/")[1] for key in keys(s3_client, bucket)} == {registered["upload_id"]}


def test_the_audit_removes_an_upload_that_nobody_has_completed_for_a_week(
    ask_uploads: Ask,
    datasets: DatasetRepository,
    connection: psycopg.Connection[Any],
    s3_client: S3Client,
    bucket: str,
) -> None:
    left = begin(ask_uploads, FOLDER | {"images/large.tif": LARGE})["upload_id"]
    used = begin(ask_uploads, FOLDER)["upload_id"]
    register(datasets, "parts", "a", source=f"s3://{bucket}/uploads/{used}")
    complete = begin(ask_uploads, FOLDER)
    send_all(ask_uploads, complete, FOLDER)
    ask_uploads("POST", f"/{complete['upload_id']}/complete")
    place = Bucket(s3_client, bucket)
    now = datetime.now(UTC)
    assert list(find_abandoned_uploads(connection, place, now + timedelta(days=6), repair=True)) == []
    found = list(find_abandoned_uploads(connection, place, now + timedelta(days=8), repair=True))
    assert [(each.path, each.repair) for each in found] == [
        (f"s3://{bucket}/uploads/{left}/", "removed, with all the files received")
    ]
    assert {key.split("/")[1] for key in keys(s3_client, bucket)} == {complete["upload_id"], used}
    assert s3_client.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []


def test_the_audit_keeps_an_upload_that_is_completed_while_it_runs(
    ask_uploads: Ask, connection: psycopg.Connection[Any], s3_client: S3Client, bucket: str
) -> None:
    begun = sorted(
        (begin(ask_uploads, FOLDER) for _ in range(2)), key=lambda upload: str(upload["upload_id"])
    )
    late = datetime.now(UTC) + timedelta(days=8)
    found = find_abandoned_uploads(connection, Bucket(s3_client, bucket), late, repair=True)
    assert (next(found).path or "").endswith(f"/{begun[0]['upload_id']}/")
    send_all(ask_uploads, begun[1], FOLDER)
    assert ask_uploads("POST", f"/{begun[1]['upload_id']}/complete").status_code == 200
    assert list(found) == []
    assert ask_uploads("GET", f"/{begun[1]['upload_id']}").status_code == 200


def test_an_upload_that_is_completed_while_the_audit_removes_it_is_whole_or_gone(
    ask_uploads: Ask, connection: psycopg.Connection[Any], s3_client: S3Client, bucket: str
) -> None:
    place, late = Bucket(s3_client, bucket), datetime.now(UTC) + timedelta(days=8)
    with ThreadPoolExecutor(1) as threads:
        for _ in range(8):
            upload = begin(ask_uploads, FOLDER)
            send_all(ask_uploads, upload, FOLDER)
            completing = threads.submit(ask_uploads, "POST", f"/{upload['upload_id']}/complete")
            removed = list(find_abandoned_uploads(connection, place, late, repair=True))
            completed = completing.result().status_code == 200
            stored = {key for key in keys(s3_client, bucket) if upload["upload_id"] in key}
            assert (completed, len(stored)) == ((False, 0) if removed else (True, len(FOLDER) + 1))


def test_an_upload_that_was_completed_after_the_audit_read_it_is_not_removed(
    ask_uploads: Ask, s3_client: S3Client, bucket: str
) -> None:
    store = UploadStore(Bucket(s3_client, bucket))
    upload = begin(ask_uploads, FOLDER)
    read_before = store.find(upload["upload_id"])
    send_all(ask_uploads, upload, FOLDER)
    assert ask_uploads("POST", f"/{upload['upload_id']}/complete").status_code == 200
    with pytest.raises(UploadUnknown, match="just removed or completed by another request"):
        store.remove(read_before)
    assert len(keys(s3_client, bucket)) == len(FOLDER) + 1


def test_nothing_is_added_to_an_upload_whose_removal_was_interrupted(
    ask_uploads: Ask, s3_client: S3Client, bucket: str
) -> None:
    upload_id = begin(ask_uploads, FOLDER)["upload_id"]
    record = f"uploads/{upload_id}/.upload.json"
    content = json.loads(s3_client.get_object(Bucket=bucket, Key=record)["Body"].read())
    interrupted = content | {"removed_at": datetime.now(UTC).isoformat()}
    s3_client.put_object(Bucket=bucket, Key=record, Body=json.dumps(interrupted))
    signed = ask_uploads("POST", f"/{upload_id}/parts", {"parts": [{"file": 0, "part": 1}]})
    assert (signed.status_code, "is being removed" in signed.text) == (409, True)
    assert ask_uploads("POST", f"/{upload_id}/complete").status_code == 404
    assert ask_uploads("DELETE", f"/{upload_id}").status_code == 204
    assert keys(s3_client, bucket) == set()


def test_the_audit_waits_for_a_registration_and_keeps_its_upload(
    ask_uploads: Ask, connection: psycopg.Connection[Any], migrated_url: str, s3_client: S3Client, bucket: str
) -> None:
    upload_id = begin(ask_uploads, FOLDER)["upload_id"]
    place, late = Bucket(s3_client, bucket), datetime.now(UTC) + timedelta(days=8)
    with ThreadPoolExecutor(1) as threads, psycopg.connect(migrated_url) as registering:
        with registering.transaction():
            lock_objects(registering, [upload_id])
            removing = threads.submit(
                lambda: list(find_abandoned_uploads(connection, place, late, repair=True))
            )
            with pytest.raises(TimeoutError):
                removing.result(3)
            register(
                DatasetRepository(registering), "parts", "a", source=f"s3://{bucket}/uploads/{upload_id}"
            )
        assert removing.result() == []
    assert ask_uploads("GET", f"/{upload_id}").status_code == 200


def test_the_list_of_files_may_be_larger_than_other_bodies(api_url: str) -> None:
    files = [{"path": f"images/{number:0100}.jpg", "size": 1} for number in range(2000)]
    answer = requests.post(f"{api_url}/uploads", json={"files": files}, timeout=60)
    assert answer.status_code == 201
    oversized = requests.post(f"{api_url}/uploads", data=b"x" * (4 * 1024**2 + 1), timeout=60)
    assert oversized.status_code == 413


def test_a_list_of_wrong_files_is_refused_at_the_first_one() -> None:
    """The errors of a list as long as the limit allows would take gigabytes of memory."""
    with pytest.raises(ValidationError) as refused:
        UploadBody.model_validate({"files": [{}, {}, {"path": 1}]})
    assert {error["loc"][1] for error in refused.value.errors()} == {0}
