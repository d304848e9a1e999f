"""Archiving and deleting versions of datasets."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter, Request

from include.api.airflow_runs import in_own_thread, trigger_run
from include.api.database import Database
from include.api.datasets import DatasetVersionResponse, VersionNumber, build_version_response
from include.api.deletion_progress import DeletionStarted
from include.api.origin import require_may_change
from include.api.problems import ProblemError, describe_errors
from include.audit.dataset_deletion import require_deletable_version
from include.audit.deletion import DeletionRequest
from include.registry.repository import DatasetRepository
from include.registry.request import REGISTER_DAG

if TYPE_CHECKING:
    from airflow.api_fastapi.auth.managers.models.base_user import BaseUser

    from include.registry.version import DatasetVersion

router = APIRouter(prefix="/datasets", tags=["datasets"], dependencies=require_may_change(REGISTER_DAG))

_NOT_FOUND = describe_errors(HTTPStatus.NOT_FOUND)


@router.post("/{name}/versions/{version}/archive", responses=_NOT_FOUND)
def archive_dataset_version(name: str, version: VersionNumber, database: Database) -> DatasetVersionResponse:
    """Archive a version: the dataset's name then refers to the newest version that is not archived.

    Nothing is deleted, and `name@version` still works. Repeating the request changes nothing.
    """
    archived = DatasetRepository(database).set_archived(name, version, archived=True)
    return build_version_response(archived, database)


@router.post("/{name}/versions/{version}/restore", responses=_NOT_FOUND)
def restore_dataset_version(name: str, version: VersionNumber, database: Database) -> DatasetVersionResponse:
    """Restore an archived version. Repeating the request changes nothing."""
    restored = DatasetRepository(database).set_archived(name, version, archived=False)
    return build_version_response(restored, database)


@router.delete(
    "/{name}/versions/{version}",
    status_code=HTTPStatus.ACCEPTED,
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

    Files that anything else uses are kept. Only the user who registered the version may delete it; anyone may
    delete a version that no user registered. The request is refused if a job, or a model in production, was
    trained on the version. The version's number is not reused. A deletion cannot be undone.
    """
    found = DatasetRepository(database).require_version(name, version)
    _require_own(found, user)
    require_deletable_version(database, found)
    return DeletionStarted(run_id=trigger_run(request, DeletionRequest(dataset=str(found))))


def _require_own(version: DatasetVersion, user: BaseUser) -> None:
    if version.created_by not in (None, user.get_name()):
        raise ProblemError(
            HTTPStatus.FORBIDDEN,
            f"{version} was registered by {version.created_by}: only the person who registered a version "
            "may delete it",
        )
