"""Uploads of datasets: the browser sends the bytes to S3 through signed links, never through this server."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated

from airflow.api_fastapi.core_api.security import GetUserDep
from airflow.sdk.exceptions import AirflowNotFoundException
from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field

from include.api.access import require_can_see_runs
from include.api.database import open_database
from include.api.origin import require_may_change
from include.api.problems import ProblemError, responses
from include.audit.orphans import find_known
from include.datasets.uploads.errors import UploadUnknown
from include.datasets.uploads.plan import UploadFile, plan_upload
from include.datasets.uploads.store import FilePart, UploadStore
from include.deployment.connections import open_bucket, s3_signer
from include.deployment.lookup import LookupFailed
from include.deployment.settings import Settings
from include.limits import ARCHIVE_BYTES, UPLOAD_FILES, UPLOAD_LINK_SECONDS, UPLOAD_LINKS, UPLOAD_PART
from include.plain_text import escape_controls
from include.registry.objects import lock_objects
from include.registry.request import REGISTER_DAG
from include.s3.errors import StoreError
from include.s3.signed_links import find_origin_of_links

if TYPE_CHECKING:
    from airflow.api_fastapi.auth.managers.models.base_user import BaseUser

    from include.datasets.uploads.plan import Upload

router = APIRouter(prefix="/uploads", tags=["uploads"])

_MAY_CHANGE = require_may_change(REGISTER_DAG)
_STRICT = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

UploadId = Annotated[str, Path(description="The id that `POST /uploads` returned.", max_length=64)]


class FileToUpload(BaseModel):
    """A file to be sent."""

    model_config = _STRICT

    path: str = Field(max_length=1024)
    """Path within the dataset."""
    size: int = Field(ge=0, le=ARCHIVE_BYTES)
    """In bytes."""


class UploadBody(BaseModel):
    """The files of an upload: a single .zip or .ndjson file, or the files of a folder."""

    model_config = _STRICT

    files: list[FileToUpload]


class UploadedFile(BaseModel):
    """A file of an upload, which is sent in parts."""

    model_config = ConfigDict(use_attribute_docstrings=True)

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


class UploadState(BaseModel):
    """An upload and its files."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    upload_id: str
    created_by: str
    source: str | None
    """The value for `dataset` once the upload is complete; null before that."""
    files: list[UploadedFile]


class WantedPart(BaseModel):
    """A part to sign."""

    model_config = _STRICT

    file: int = Field(ge=0, lt=UPLOAD_FILES)
    """Position of the file in the list, counted from 0."""
    part: int = Field(ge=1, le=10_000)
    """Number of the part, counted from 1."""


class PartsBody(BaseModel):
    """The parts to sign."""

    model_config = _STRICT

    parts: list[WantedPart] = Field(min_length=1, max_length=UPLOAD_LINKS)


class SignedPart(BaseModel):
    """A link for sending one part: a PUT with these headers and exactly the part's bytes."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    file: int
    """Position of the file in the list, counted from 0."""
    part: int
    """Number of the part, counted from 1."""
    url: str
    headers: dict[str, str]


class SignedParts(BaseModel):
    """Links for sending parts."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    links: list[SignedPart]
    seconds: int
    """How long the links are valid."""


class CompletedUpload(BaseModel):
    """A complete upload."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    upload_id: str
    source: str
    """The value for `dataset`."""


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    dependencies=_MAY_CHANGE,
)
def begin_upload(body: UploadBody, user: GetUserDep) -> UploadState:
    """Announce the files of a dataset. Only announced files can be sent, and only at the announced size."""
    announced = [UploadFile(path=file.path, size=file.size) for file in body.files]
    planned = plan_upload(announced, user.get_name())
    upload = _open_store().begin(planned)
    return _state(upload, [[] for _ in upload.files])


@router.get(
    "/{upload_id}",
    dependencies=[require_can_see_runs(REGISTER_DAG)],
    responses=responses(HTTPStatus.NOT_FOUND),
)
def get_upload(upload_id: UploadId, user: GetUserDep) -> UploadState:
    """Return the parts that S3 has received, so that an interrupted upload sends only the rest.

    Until the upload is complete, a file whose size differs from the announced size is removed, because its
    transfer was cut off.
    """
    store = _open_store()
    upload = _require_own(store, upload_id, user)
    return _state(upload, store.list_arrived(upload))


@router.post(
    "/{upload_id}/parts",
    dependencies=_MAY_CHANGE,
    responses=responses(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
)
def sign_parts(upload_id: UploadId, body: PartsBody, user: GetUserDep) -> SignedParts:
    """Sign links for parts.

    If a file that has only one part is already stored, S3 answers 412, even if the stored file is truncated.
    """
    store = _open_store()
    upload = _require_own(store, upload_id, user)
    signer = s3_signer(Settings.from_environment().s3_public_endpoint)
    signed = [
        SignedPart(file=link.part.file, part=link.part.number, url=link.url, headers=link.headers)
        for link in store.sign_links(upload, [FilePart(each.file, each.part) for each in body.parts], signer)
    ]
    return SignedParts(links=signed, seconds=UPLOAD_LINK_SECONDS)


@router.post(
    "/{upload_id}/complete",
    dependencies=_MAY_CHANGE,
    responses=responses(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
)
def complete_upload(upload_id: UploadId, user: GetUserDep) -> CompletedUpload:
    """Verify that S3 has every part at its full size, and assemble the files.

    Repeating the request changes nothing. The files of a complete upload cannot be replaced. A 409 names the
    files that are missing or were not announced.
    """
    store = _open_store(interactive=False)  # assembling gigabytes takes seconds
    _require_own(store, upload_id, user)
    source = store.complete(upload_id).source(Settings.from_environment().bucket)
    return CompletedUpload(upload_id=upload_id, source=source)


@router.delete(
    "/{upload_id}",
    dependencies=_MAY_CHANGE,
    responses=responses(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
    status_code=HTTPStatus.NO_CONTENT,
)
def delete_upload(upload_id: UploadId, user: GetUserDep) -> None:
    """Delete an upload and its files, unless a job or a version of a dataset uses it."""
    store = _open_store(interactive=False)
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


def find_upload_origin() -> str | None:
    """Return the origin of the links, which the Content-Security-Policy of the upload pages has to allow.

    Return None if the connection to S3 is missing or has no keys: uploads are then impossible anyway.
    """
    settings = Settings.from_environment()
    try:
        return find_origin_of_links(s3_signer(settings.s3_public_endpoint), settings.bucket)
    except (AirflowNotFoundException, LookupFailed, StoreError):
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


def _state(upload: Upload, arrived: list[list[int]]) -> UploadState:
    done = upload.completed_at is not None
    return UploadState(
        upload_id=upload.upload_id,
        created_by=escape_controls(upload.created_by),
        source=upload.source(Settings.from_environment().bucket) if done else None,
        files=[
            UploadedFile(
                path=file.path, size=file.size, part_size=UPLOAD_PART, parts=file.parts, arrived=numbers
            )
            for file, numbers in zip(upload.files, arrived, strict=True)
        ],
    )


def _open_store(*, interactive: bool = True) -> UploadStore:
    return UploadStore(open_bucket(Settings.from_environment(), interactive=interactive))
