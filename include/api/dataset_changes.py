"""Changing datasets: registering data as the next version of a dataset, archiving and deleting versions."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter, Request
from pydantic import Field

from include.api.access import require_can_see_runs
from include.api.airflow_runs import find_run, in_own_thread, read_failure, read_result, trigger_run
from include.api.bodies import RequestBody, ResponseBody
from include.api.database import Database
from include.api.datasets import DatasetVersionResponse, VersionNumber, build_version_response
from include.api.deletion_progress import DeletionStarted
from include.api.origin import require_may_change
from include.api.problems import ProblemError, describe_errors
from include.audit.dataset_deletion import require_deletable_version
from include.audit.deletion import DeletionRequest
from include.limits import TEXT
from include.registry.repository import DatasetRepository
from include.registry.request import REGISTER_DAG, RegisteredVersion, RegisterRequest

if TYPE_CHECKING:
    from airflow.api_fastapi.auth.managers.models.base_user import BaseUser

    from include.registry.version import DatasetVersion

router = APIRouter(prefix="/datasets", tags=["datasets"])

_MAY_CHANGE = require_may_change(REGISTER_DAG)
_NOT_FOUND = describe_errors(HTTPStatus.NOT_FOUND)

_REFUSING = ("check_dataset", "record_version")
"""The tasks that may refuse the data."""


class NewVersion(RequestBody):
    """The parameters of `register_dataset`, without the dataset's name."""

    source: str = Field(max_length=TEXT)
    """Where the data are: an s3:// URI, a path, or `digits`."""
    task: str = Field("detect", max_length=TEXT)
    """The task for which the data are labelled. Not validated here, but with the other parameters."""
    note: str | None = Field(None, max_length=TEXT)
    """A note on this version, stored with it; null for none."""


class RegistrationStarted(ResponseBody):
    """The run of `register_dataset` that was triggered."""

    run_id: str
    """Id of the run, for `GET /datasets/{name}/registrations/{run_id}`."""


class DatasetRegistration(ResponseBody):
    """The progress of a registration, and how it ended."""

    state: Literal["queued", "checking", "registered", "refused", "failed"]
    """Where the registration stands. Users who may not read XComs get `failed` instead of `refused`."""
    version: int | None = None
    """Number of the version; null before it is registered. Also null if `created` is false and the user may
    not read XComs."""
    created: bool | None = None
    """False if the newest version already had the same content."""
    error: str | None = None
    """Why the data were refused, or where the run's log is. Users who may not read XComs always learn only
    where the log is."""


@router.post(
    "/{name}/versions",
    status_code=HTTPStatus.ACCEPTED,
    responses=_NOT_FOUND,
    dependencies=_MAY_CHANGE,
)
@in_own_thread
def register_dataset_version(request: Request, name: str, version: NewVersion) -> RegistrationStarted:
    """Check data and register them as the next version of the dataset, by triggering `register_dataset`."""
    wanted = RegisterRequest.parse({"name": name} | version.model_dump())
    return RegistrationStarted(run_id=trigger_run(request, wanted))


@router.get(
    "/{name}/registrations/{run_id:path}",
    responses=_NOT_FOUND,
    dependencies=[require_can_see_runs(REGISTER_DAG)],
)
@in_own_thread
def get_dataset_registration(
    request: Request, database: Database, name: str, run_id: str
) -> DatasetRegistration:
    """Return the progress of a registration; repeat the request every few seconds until it has ended."""
    run = find_run(request, REGISTER_DAG, run_id)
    if run is None or (run["conf"] or {}).get("name") != name:
        raise ProblemError(
            HTTPStatus.NOT_FOUND, f"run_id={run_id!r:.200} is not a registration of dataset {name!r:.140}"
        )
    match run["state"]:
        case "queued":
            return DatasetRegistration(state="queued")
        case "success":
            return _find_result(request, run_id) or _find_version(database, name, run_id)
        case "failed":
            state, error = read_failure(request, REGISTER_DAG, run_id, *_REFUSING)
            return DatasetRegistration(state=state, error=error)
    # The version is registered before the run ends: the last task only announces it.
    return _find_result(request, run_id) or DatasetRegistration(state="checking")


@router.post("/{name}/versions/{version}/archive", dependencies=_MAY_CHANGE, responses=_NOT_FOUND)
def archive_dataset_version(name: str, version: VersionNumber, database: Database) -> DatasetVersionResponse:
    """Archive a version: the dataset's name then refers to the newest version that is not archived.

    Nothing is deleted, and `name@version` still works. Repeating the request changes nothing.
    """
    archived = DatasetRepository(database).set_archived(name, version, archived=True)
    return build_version_response(archived, database)


@router.post("/{name}/versions/{version}/restore", dependencies=_MAY_CHANGE, responses=_NOT_FOUND)
def restore_dataset_version(name: str, version: VersionNumber, database: Database) -> DatasetVersionResponse:
    """Restore an archived version. Repeating the request changes nothing."""
    restored = DatasetRepository(database).set_archived(name, version, archived=False)
    return build_version_response(restored, database)


@router.delete(
    "/{name}/versions/{version}",
    status_code=HTTPStatus.ACCEPTED,
    dependencies=_MAY_CHANGE,
    responses=describe_errors(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
)
@in_own_thread
def delete_dataset_version(
    request: Request,
    user: GetUserDep,
    database: Database,
    name: str,
    version: VersionNumber,
) -> DeletionStarted:
    """Delete a version and its files under uploads/ and datasets/, by triggering `delete_data`.

    Files that anything else uses are kept. Only the user who registered the version may delete it. Anyone may
    delete a version that no user registered. The request is refused if a job, or a model in production, was
    trained on the version. The version's number is not reused. A deletion cannot be undone.
    """
    found = DatasetRepository(database).require_version(name, version)
    _require_own(found, user)
    require_deletable_version(database, found)
    return DeletionStarted(run_id=trigger_run(request, DeletionRequest(dataset=str(found))))


def _find_version(database: Database, name: str, run_id: str) -> DatasetRegistration:
    """Return the version that the run registered, without reading XComs, for users who may not read them."""
    version = DatasetRepository(database).find_of_run(run_id, name)
    return DatasetRegistration(
        state="registered",
        version=version.version if version else None,
        created=version is not None,
    )


def _find_result(request: Request, run_id: str) -> DatasetRegistration | None:
    """Return the result of task `record_version`; None before it ends, or if the user may not read XComs."""
    result: Any = read_result(request, REGISTER_DAG, run_id, "record_version", "return_value")
    if result is None:
        return None
    registered = RegisteredVersion.model_validate(result)
    return DatasetRegistration(state="registered", version=registered.version, created=registered.created)


def _require_own(version: DatasetVersion, user: BaseUser) -> None:
    if version.created_by not in (None, user.get_name()):
        raise ProblemError(
            HTTPStatus.FORBIDDEN,
            f"{version} was registered by {version.created_by}: only the person who registered a version "
            "may delete it",
        )
