"""Pretrained weights that are stored for all jobs: listing the files, and uploading one from a browser."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from http import HTTPStatus
from pathlib import Path as FilePath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

from airflow.api_fastapi.core_api.security import GetUserDep
from anyio import CapacityLimiter, current_time, fail_after, open_file, to_thread
from fastapi import APIRouter, Path, Query, Request
from starlette.requests import ClientDisconnect

from include.api.access import require_can_see_runs
from include.api.bodies import ResponseBody
from include.api.deployment import CurrentSettings, InteractiveBucket
from include.api.origin import require_may_change
from include.api.problems import ProblemError, describe_errors
from include.checkpoints.errors import UnsafeCheckpoint
from include.checkpoints.inspection.errors import InspectionError
from include.deployment.connections import open_bucket
from include.jobs.job import TRAINING_DAG
from include.jobs.model_reference import parse_weights_name
from include.s3.errors import FencedOut
from include.weights.pretrained import PretrainedStore, WeightsUnavailable

if TYPE_CHECKING:
    from include.deployment.settings import Settings
    from include.s3.bucket import Bucket

log = logging.getLogger(__name__)

MAX_LISTED = 1000
"""S3 lists at most this many files per request; Ultralytics publishes about 200."""

_UPLOADS = CapacityLimiter(2)
"""Maximum number of concurrent uploads in this process: each needs disk space for the whole file."""

_WAIT_SECONDS = 20.0
_SILENT_SECONDS = 60.0
"""Maximum pause between two blocks of an upload, and the time before the minimum speed applies."""

_MIN_BYTES_PER_SECOND = 16 * 1024
"""Minimum average speed, after the first `_SILENT_SECONDS`: a slower upload would block others."""

router = APIRouter(prefix="/pretrained", tags=["pretrained"])


class PretrainedFile(ResponseBody):
    """A stored file."""

    name: str
    """The name that the parameter `model` accepts."""
    size: int
    """In bytes."""
    stored_at: datetime
    """When the file was stored, or last replaced."""


class PretrainedFiles(ResponseBody):
    """The stored files, sorted by name."""

    files: list[PretrainedFile]
    """At most 1000 files."""
    truncated: bool
    """Whether more files are stored."""


class StoredFile(ResponseBody):
    """A file that was stored."""

    name: str
    """The name that the parameter `model` accepts."""
    path: str
    """The s3:// URI."""
    sha256: str
    """In lower-case hex."""


@router.get("", dependencies=[require_can_see_runs(TRAINING_DAG)])
def list_pretrained(bucket: InteractiveBucket) -> PretrainedFiles:
    """List the stored files. A file that Ultralytics publishes is added when a job first needs it."""
    found, truncated = _open_store(bucket).list_stored(MAX_LISTED)
    files = [
        PretrainedFile(name=name, size=item.size, stored_at=item.modified) for name, item in found.items()
    ]
    return PretrainedFiles(files=files, truncated=truncated)


@router.put(
    "/{name}",
    dependencies=require_may_change(TRAINING_DAG),
    responses=describe_errors(HTTPStatus.CONFLICT, HTTPStatus.INSUFFICIENT_STORAGE),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def store_pretrained(
    request: Request,
    user: GetUserDep,
    settings: CurrentSettings,
    name: Annotated[str, Path(description="Name of the file, such as yolo26n.pt; the value for `model`.")],
    replace: Annotated[
        bool, Query(description="Whether to replace the stored file if its content differs.")
    ] = False,
) -> StoredFile:
    """Store a .pt file for all jobs. The file is inspected first, and none of its code is run.

    A stored file of the same name with different content is kept (409) unless `replace` is true. Jobs that
    have already started identify their initial weights by SHA-256, so they never train from other weights.
    """
    try:
        name = parse_weights_name(name)
    except ValueError as error:
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from None
    async with _upload_slot():
        with _explain_disk_errors():
            temporary = TemporaryDirectory(prefix="pretrained-")
        with temporary as folder:
            file = FilePath(folder) / name
            sha256 = await _receive(request, file)
            stored = await to_thread.run_sync(_store_file, settings, file, name, sha256, replace)
    log.info("%s uploaded %s, SHA-256 %s.", user.get_name(), stored.path, sha256)
    return stored


@asynccontextmanager
async def _upload_slot() -> AsyncIterator[None]:
    """Wait until fewer than two other uploads are running. Raises ProblemError (503) after a timeout."""
    try:
        with fail_after(_WAIT_SECONDS):
            await _UPLOADS.acquire()
    except TimeoutError:
        raise ProblemError(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "Two other files are being uploaded: try again in a minute",
            {"Retry-After": "60"},
        ) from None
    try:
        yield
    finally:
        _UPLOADS.release()


async def _receive(request: Request, file: FilePath) -> str:
    """Write the request's body to the file and return its SHA-256."""
    digest = hashlib.sha256()
    try:
        with _explain_disk_errors():
            async with await open_file(file, "wb") as writing:
                async for block in _read_blocks(request):
                    digest.update(block)
                    await writing.write(block)
    except ClientDisconnect:
        raise ProblemError(
            HTTPStatus.REQUEST_TIMEOUT, "The upload was interrupted: send the file again"
        ) from None
    return digest.hexdigest()


@contextmanager
def _explain_disk_errors() -> Iterator[None]:
    """Turn an OSError into a ProblemError (507)."""
    try:
        yield
    except OSError as error:
        log.warning("An upload could not be written to the disk: %s", error)
        raise ProblemError(
            HTTPStatus.INSUFFICIENT_STORAGE,
            f"The API server cannot store the file for its inspection ({error.strerror}); an administrator "
            "has to free disk space, or put the file into the bucket",
        ) from None


async def _read_blocks(request: Request) -> AsyncIterator[bytes]:
    """Yield the body in blocks. Raises ProblemError (408) if a pause is too long or the speed too low."""
    blocks, started, received = request.stream(), current_time(), 0
    while True:
        left = started + _SILENT_SECONDS + received / _MIN_BYTES_PER_SECOND - current_time()
        try:
            with fail_after(min(left, _SILENT_SECONDS)):
                block = await anext(blocks, None)
        except TimeoutError:
            raise ProblemError(
                HTTPStatus.REQUEST_TIMEOUT,
                f"Only {received:,} bytes arrived in {current_time() - started:.0f} seconds: send the file "
                "again",
                {"Connection": "close"},
            ) from None
        if block is None:
            return
        received += len(block)
        yield block


def _store_file(settings: Settings, file: FilePath, name: str, sha256: str, replace: bool) -> StoredFile:
    store = _open_store(open_bucket(settings))  # not interactive: sending gigabytes takes minutes
    try:
        stored = store.put(file, name, replace=replace)
    except InspectionError as error:
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, f"{name} {error}") from None
    except FencedOut:
        raise ProblemError(HTTPStatus.CONFLICT, f"{name} was just stored by another upload") from None
    except UnsafeCheckpoint as error:
        raise ProblemError(
            HTTPStatus.CONFLICT,
            f"{name} is already stored, but cannot be compared with your file: {error}; rename your file, "
            "or set replace=true to replace the stored one",
        ) from None
    except WeightsUnavailable:
        raise ProblemError(
            HTTPStatus.CONFLICT,
            f"The stored {name} was deleted while this upload was compared with it: send the file again",
        ) from None
    if stored.sha256 != sha256:
        raise ProblemError(
            HTTPStatus.CONFLICT,
            f"{name} is already stored with different content (SHA-256 {stored.sha256}); rename your file, "
            "or set replace=true to replace the stored one for future jobs",
        )
    return StoredFile(name=name, path=stored.path, sha256=sha256)


def _open_store(bucket: Bucket) -> PretrainedStore:
    """Return a store that does not download files that are missing from the bucket."""
    return PretrainedStore(bucket, None)
