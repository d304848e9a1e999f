"""Uploads a dataset to the local stack and starts its check, through the API that the console also uses."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import requests
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

from include.console import PREFIX
from include.datasets.names import is_ignored
from include.deployment.settings import DEFAULT_BUCKET
from include.limits import UPLOAD_LINKS
from include.registry.request import RegisterRequest
from include.request import RequestRefused
from include.stack.airflow_api import ApiRefusal
from include.stack.errors import StackError
from include.stack.outages import retry_during_outage
from include.stack.ports import open_session
from include.stack.private_files import hold_lock, make_private_folder, write_private

if TYPE_CHECKING:
    from include.stack.airflow_api import AirflowApi
    from include.stack.local import Stack
    from include.stack.steps import Steps

_AT_ONCE = 4
_ROUNDS = 3
_SECONDS = 120
_POLL_SECONDS = 1.0
_ATTEMPTS = 4
_ARRIVED = {requests.codes.ok, requests.codes.precondition_failed}
"""412 means that an earlier attempt, whose response was lost, has stored the file."""


def upload_dataset(stack: Stack, steps: Steps, source: Path, name: str, task: str) -> None:
    """Upload a .zip or a folder as the next version of dataset `name`, and wait for its check.

    Raises StackError with the reason if the dataset is refused.
    """
    stack.require_running()
    try:
        RegisterRequest.parse({"name": name, "source": f"s3://{DEFAULT_BUCKET}/", "task": task})
    except RequestRefused as refusal:
        raise StackError(str(refusal)) from None
    stack.api.call_training_api("GET", "datasets")  # fails before the upload if the tables are missing
    files = _find_files(source)
    memory = stack.state.path / "uploads" / _hash_files(files)
    # One sender at a time: a second sender of the same files would continue the first one's upload.
    with steps.step(f"Upload {source}", with_spinner=False), hold_lock(stack.state.path / "uploads.lock"):
        upload = find_interrupted(stack.api, memory) or _begin(stack, files, memory)
        data = upload["source"] or _send(stack, steps, upload, list(files.values()))
        body = {"source": data, "task": task, "note": None}
        path = f"datasets/{quote(name, safe='')}/versions"
        run_id = stack.api.call_training_api("POST", path, body)["run_id"]
        # Forget the upload only now: if its check could not be started, the next attempt need not resend it.
        memory.unlink(missing_ok=True)
    with steps.step(f"Check every image and label of {name}") as step:
        version = _wait_for_version(stack, steps, name, run_id)
        step.result = f"version {version}"
    steps.say(
        f"View it:      {stack.url}/plugin/trainings{PREFIX}/dataset?name={quote(name)}&version={version}"
    )
    steps.say(f"Train on it:  dataset={name}@{version}, or dataset={name} for the newest version")


def _find_files(source: Path) -> dict[str, Path]:
    """Return the files to send, by their path within the dataset."""
    if source.is_file():
        return {source.name: source}
    if not source.is_dir():
        raise StackError(f"{source} does not exist.")
    found = {path.relative_to(source): path for path in sorted(source.rglob("*")) if path.is_file()}
    return {path.as_posix(): file for path, file in found.items() if not is_ignored(path.parts)}


def _hash_files(files: dict[str, Path]) -> str:
    """Return a digest of paths, sizes and modification times. Equal digests mean that no file has changed."""
    seen = [(path, file.stat().st_size, file.stat().st_mtime_ns) for path, file in files.items()]
    return sha256(json.dumps(seen).encode()).hexdigest()


def find_interrupted(api: AirflowApi, memory: Path) -> dict[str, Any] | None:
    """Return the interrupted upload of the same files, or None if there is none.

    Raises ApiUnavailable during an outage; the upload can be continued later.
    """
    try:
        return api.call_training_api("GET", f"uploads/{memory.read_text()}")
    except (FileNotFoundError, ApiRefusal):
        return None


def _begin(stack: Stack, files: dict[str, Path], memory: Path) -> dict[str, Any]:
    """Announce the files to the API, and store the upload's id until its check has been started."""
    announced = [{"path": path, "size": file.stat().st_size} for path, file in files.items()]
    upload = stack.api.call_training_api("POST", "uploads", {"files": announced})
    make_private_folder(memory.parent)
    write_private(memory, upload["upload_id"])
    return upload


def _send(stack: Stack, steps: Steps, upload: dict[str, Any], files: list[Path]) -> str:
    """Send the parts that S3 lacks, and return the dataset's source.

    A sender that was killed may have left a half-sent file, which S3 refuses to overwrite. Requesting the
    upload's state again removes that file.
    """
    address = f"uploads/{upload['upload_id']}"
    for _ in range(_ROUNDS):
        parts = _list_missing_parts(upload)
        if not parts:
            break
        _send_parts(stack, steps, upload, files, parts)
        upload = stack.api.call_training_api("GET", address)
    return str(stack.api.call_training_api("POST", f"{address}/complete")["source"])


def _list_missing_parts(upload: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"file": index, "part": number}
        for index, file in enumerate(upload["files"])
        for number in sorted(set(range(1, file["parts"] + 1)) - set(file["arrived"]))
    ]


def _send_parts(
    stack: Stack, steps: Steps, upload: dict[str, Any], files: list[Path], parts: list[dict[str, Any]]
) -> None:
    """Send these parts, several at a time, with a progress bar on a terminal."""
    announced, address = upload["files"], f"uploads/{upload['upload_id']}"
    columns = BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    total = sum(_compute_part_size(announced[part["file"]], part["part"]) for part in parts)
    with (
        Progress(*columns, console=steps.console, transient=True) as progress,
        ThreadPoolExecutor(_AT_ONCE) as threads,
    ):
        bar = progress.add_task("upload", total=total)

        def send(link: dict[str, Any]) -> None:
            size = announced[link["file"]]["part_size"]
            progress.advance(bar, _send_part(link, files[link["file"]], size))

        for start in range(0, len(parts), UPLOAD_LINKS):
            batch = parts[start : start + UPLOAD_LINKS]
            links = stack.api.call_training_api("POST", f"{address}/parts", {"parts": batch})["links"]
            list(threads.map(send, links))


def _compute_part_size(file: dict[str, Any], part: int) -> int:
    """Return the size of a part. All parts except the last have the same size."""
    return int(min(file["part_size"], file["size"] - (part - 1) * file["part_size"]))


def _send_part(link: dict[str, Any], file: Path, size: int) -> int:
    """PUT one part to S3, and return its size. Raises StackError if S3 keeps refusing it."""
    with file.open("rb") as opened:
        opened.seek((link["part"] - 1) * size)
        content = opened.read(size)
    reason = ""
    with open_session() as session:
        for attempt in range(_ATTEMPTS):
            time.sleep(attempt)
            try:
                answer = session.put(link["url"], data=content, headers=link["headers"], timeout=_SECONDS)
            except requests.RequestException as error:
                reason = type(error).__name__
                continue
            if answer.status_code in _ARRIVED:
                return len(content)
            reason = f"HTTP {answer.status_code}"
    raise StackError(
        f"S3 did not store part {link['part']} of {file} ({reason}). See `make status` and `make logs`, then "
        "try again."
    )


def _wait_for_version(stack: Stack, steps: Steps, name: str, run_id: str) -> int:
    """Return the version that the run registers. Raises StackError with the reason if the run fails."""
    path = f"datasets/{quote(name, safe='')}/registrations/{quote(run_id, safe='')}"
    request = partial(stack.api.call_training_api, "GET", path)
    while True:
        found = retry_during_outage(stack, steps, request)
        if found["state"] == "registered":
            version: int = found["version"]
            return version
        if found["state"] in {"refused", "failed"}:
            raise StackError(f"The dataset was not registered: {found['error']}")
        time.sleep(_POLL_SECONDS)
