"""Uploads of datasets: the browser sends the bytes to S3 through signed links, never through this server."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated

from airflow.api_fastapi.core_api.security import GetUserDep
from airflow.sdk.exceptions import AirflowNotFoundException
from fastapi import APIRouter, Depends, Path
from pydantic import FailFast, Field

from include.api.access import require_can_see_runs
from include.api.bodies import RequestBody, ResponseBody
from include.api.database import open_database
from include.api.deployment import CurrentSettings, InteractiveBucket  # noqa: TC001 - read at run time
from include.api.origin import require_may_change
from include.api.problems import ProblemError, describe_errors
from include.audit.orphans import find_known
from include.datasets.uploads.errors import UploadUnknown
from include.datasets.uploads.plan import UploadFile, plan_upload
from include.datasets.uploads.store import FilePart, UploadStore
from include.deployment.connections import create_s3_signer, open_bucket
from include.deployment.lookup import LookupFailed
from include.deployment.settings import SettingRefused
from include.limits import ARCHIVE_BYTES, UPLOAD_FILES, UPLOAD_LINK_SECONDS, UPLOAD_LINKS, UPLOAD_PART
from include.plain_text import escape_controls
from include.registry.objects import lock_objects
from include.registry.request import REGISTER_DAG
from include.s3.errors import StoreError
from include.s3.signed_links import find_origin_of_links

if TYPE_CHECKING:
    from airflow.api_fastapi.auth.managers.models.base_user import BaseUser

    from include.datasets.uploads.plan import Upload
    from include.deployment.settings import Settings

router = APIRouter(prefix="/uploads", tags=["uploads"])

_MAY_CHANGE = require_may_change(REGISTER_DAG)

UploadId = Annotated[str, Path(description="The id that `POST /uploads` returned.", max_length=64)]


async def _prepare_uploads(bucket: InteractiveBucket) -> UploadStore:
    return UploadStore(bucket)


InteractiveUploads = Annotated[UploadStore, Depends(_prepare_uploads)]
"""Parameter of routes: the uploads in the deployment's bucket, for requests that the user waits for."""


class FileToUpload(RequestBody):
    """A file to be sent."""

    path: str = Field(max_length=1024)
    """Path within the dataset."""
    size: int = Field(ge=0, le=ARCHIVE_BYTES)
    """In bytes."""


class UploadBody(RequestBody):
    """The files of an upload."""

    # Without FailFast, the errors of a million wrong entries would take gigabytes of memory, and block the
    # server for half a minute.
    files: Annotated[list[FileToUpload], FailFast()]
    """A single .zip or .ndjson file, or all files of a folder; no file can be added later."""


class UploadedFile(ResponseBody):
    """A file of an upload, which is sent in parts."""

    path: str
    """Path within the dataset."""
    size: int
    """In bytes."""
    part_size: int
    """Size of each part in bytes; the last part may be smaller."""
    parts: int
    """Number of parts."""
    arrived: list[int]
    """Numbers of the parts that S3 has received, counted from 1."""


class UploadState(ResponseBody):
    """An upload and its files."""

    upload_id: str
    """Names the upload in further requests."""
    created_by: str
    """The user who started the upload; only this user may continue it."""
    source: str | None
    """The value for `dataset` once the upload is complete; null before that."""
    files: list[UploadedFile]
    """The files in the order in which they were announced."""


class WantedPart(RequestBody):
    """A part to sign."""

    file: int = Field(ge=0, lt=UPLOAD_FILES)
    """Position of the file in the list, counted from 0."""
    part: int = Field(ge=1, le=10_000)
    """Number of the part, counted from 1."""


class PartsBody(RequestBody):
    """The parts to sign."""

    parts: list[WantedPart] = Field(min_length=1, max_length=UPLOAD_LINKS)
    """The parts of any files of the upload."""


class SignedPart(ResponseBody):
    """A link for sending one part: a PUT with these headers and exactly the part's bytes."""

    file: int
    """Position of the file in the list, counted from 0."""
    part: int
    """Number of the part, counted from 1."""
    url: str
    """The address to which the part is sent."""
    headers: dict[str, str]
    """The headers that must be sent with the part."""


class SignedParts(ResponseBody):
    """Links for sending parts."""

    links: list[SignedPart]
    """The links in the order of the requested parts."""
    seconds: int
    """How long the links are valid."""


class CompletedUpload(ResponseBody):
    """A complete upload."""

    upload_id: str
    """The upload in the URL."""
    source: str
    """The value for `dataset`."""


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    dependencies=_MAY_CHANGE,
)
def begin_upload(
    body: UploadBody, user: GetUserDep, settings: CurrentSettings, uploads: InteractiveUploads
) -> UploadState:
    """Announce the files of a dataset. Only announced files can be sent, and only at the announced size."""
    announced = [UploadFile(path=file.path, size=file.size) for file in body.files]
    upload = uploads.begin(plan_upload(announced, user.get_name()))
    return _build_state(upload, [[] for _ in upload.files], settings.bucket)


@router.get(
    "/{upload_id}",
    dependencies=[require_can_see_runs(REGISTER_DAG)],
    responses=describe_errors(HTTPStatus.NOT_FOUND),
)
def get_upload(
    upload_id: UploadId, user: GetUserDep, settings: CurrentSettings, uploads: InteractiveUploads
) -> UploadState:
    """Return the parts that S3 has received, so that an interrupted upload sends only the rest.

    Until the upload is complete, this request also removes every file whose size differs from the announced
    size: its transfer was cut off.
    """
    upload = _require_own(uploads, upload_id, user)
    return _build_state(upload, uploads.list_arrived(upload), settings.bucket)


@router.post(
    "/{upload_id}/parts",
    dependencies=_MAY_CHANGE,
    responses=describe_errors(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
)
def sign_parts(
    upload_id: UploadId,
    body: PartsBody,
    user: GetUserDep,
    settings: CurrentSettings,
    uploads: InteractiveUploads,
) -> SignedParts:
    """Sign links for parts.

    If a file has only one part and is already stored, S3 answers its link with 412, even if the stored file
    is truncated.
    """
    upload = _require_own(uploads, upload_id, user)
    signer = create_s3_signer(settings.s3_public_endpoint)
    wanted = [FilePart(each.file, each.part) for each in body.parts]
    signed = [
        SignedPart(file=link.part.file, part=link.part.number, url=link.url, headers=link.headers)
        for link in uploads.sign_links(upload, wanted, signer)
    ]
    return SignedParts(links=signed, seconds=UPLOAD_LINK_SECONDS)


@router.post(
    "/{upload_id}/complete",
    dependencies=_MAY_CHANGE,
    responses=describe_errors(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
)
def complete_upload(upload_id: UploadId, user: GetUserDep, settings: CurrentSettings) -> CompletedUpload:
    """Verify that S3 has every part at its full size, and assemble the files.

    Repeating the request changes nothing. The files of a complete upload cannot be replaced. A 409 names the
    files that are missing or were not announced.
    """
    store = UploadStore(open_bucket(settings))  # not interactive: assembling gigabytes takes seconds
    _require_own(store, upload_id, user)
    source = store.complete(upload_id).build_source(settings.bucket)
    return CompletedUpload(upload_id=upload_id, source=source)


@router.delete(
    "/{upload_id}",
    dependencies=_MAY_CHANGE,
    responses=describe_errors(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
    status_code=HTTPStatus.NO_CONTENT,
)
def delete_upload(upload_id: UploadId, user: GetUserDep, settings: CurrentSettings) -> None:
    """Delete an upload and its files, unless a job or a version of a dataset uses it."""
    store = UploadStore(open_bucket(settings))
    upload = _require_own(store, upload_id, user)
    with open_database() as database, database.transaction():
        lock_objects(database, [upload_id])
        if find_known(database, "list_known_uploads", [upload_id]):
            raise ProblemError(
                HTTPStatus.CONFLICT,
                f"upload_id={upload_id!r} is used by a version of a dataset or by a job: delete that version "
                "or job first, and then the upload if it still exists",
            )
        try:
            store.remove(upload)
        except UploadUnknown as changed:
            raise ProblemError(HTTPStatus.CONFLICT, str(changed)) from None


def find_upload_origin(settings: Settings) -> str | None:
    """Return the origin of the links, which the Content-Security-Policy of the upload pages has to allow.

    Return None if the connection to S3 is missing or has no keys, or if the endpoint is invalid: uploads are
    then impossible anyway.
    """
    try:
        return find_origin_of_links(create_s3_signer(settings.s3_public_endpoint), settings.bucket)
    except (AirflowNotFoundException, LookupFailed, SettingRefused, StoreError):
        return None


def _require_own(store: UploadStore, upload_id: str, user: BaseUser) -> Upload:
    upload = store.find(upload_id)
    if upload.created_by != user.get_name():
        raise ProblemError(
            HTTPStatus.FORBIDDEN,
            f"upload_id={upload_id!r} was started by {upload.created_by}: only the person who started an "
            "upload may see, continue or delete it",
        )
    return upload


def _build_state(upload: Upload, arrived: list[list[int]], bucket: str) -> UploadState:
    return UploadState(
        upload_id=upload.upload_id,
        created_by=escape_controls(upload.created_by),
        source=upload.build_source(bucket) if upload.completed_at is not None else None,
        files=[
            UploadedFile(
                path=file.path, size=file.size, part_size=UPLOAD_PART, parts=file.parts, arrived=numbers
            )
            for file, numbers in zip(upload.files, arrived, strict=True)
        ],
    )
