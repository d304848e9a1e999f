"""Deletions and their progress.

This server has no right to delete what tasks have stored, so a run of the Dag `delete_data` does that.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Literal

from fastapi import APIRouter, Request

from include.api.access import require_can_see_runs
from include.api.airflow_runs import find_run, in_own_thread, read_failure, read_result
from include.api.bodies import ResponseBody
from include.api.problems import ProblemError, describe_errors
from include.audit.deletion import DELETION_DAG

router = APIRouter(prefix="/deletions", tags=["deletions"])

_TASK = "delete"


class DeletionStarted(ResponseBody):
    """The run of `delete_data` that was triggered; `GET /deletions/{run_id}` returns its progress."""

    run_id: str
    """Id of the run."""


class DeletionProgress(ResponseBody):
    """The progress of a deletion, and how it ended.

    A refused deletion deletes nothing; a failed one may have deleted only some of the objects.
    """

    state: Literal["deleting", "deleted", "refused", "failed"]
    """Where the deletion stands. Users who may not read XComs get `failed` instead of `refused`."""
    objects: int | None = None
    """Number of deleted objects; null for users without the right to read XComs."""
    bytes: int | None = None
    """Total size of the deleted objects in bytes; null for users without the right to read XComs."""
    error: str | None = None
    """Why the deletion was refused, or where the run's log is. Users who may not read XComs always learn only
    where the log is."""


@router.get(
    "/{run_id:path}",
    responses=describe_errors(HTTPStatus.NOT_FOUND),
    dependencies=[require_can_see_runs(DELETION_DAG)],
)
@in_own_thread
def get_deletion(request: Request, run_id: str) -> DeletionProgress:
    """Return the progress of a deletion; repeat the request every second while its state is `deleting`."""
    run = find_run(request, DELETION_DAG, run_id)
    if run is None:
        raise ProblemError(HTTPStatus.NOT_FOUND, f"run_id={run_id!r:.200} is not a deletion")
    match run["state"]:
        case "success":
            deleted = read_result(request, DELETION_DAG, run_id, _TASK, "return_value") or {}
            return DeletionProgress(
                state="deleted", objects=deleted.get("objects"), bytes=deleted.get("bytes")
            )
        case "failed":
            state, error = read_failure(request, DELETION_DAG, run_id, _TASK)
            return DeletionProgress(state=state, error=error)
    return DeletionProgress(state="deleting")
