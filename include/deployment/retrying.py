"""Retries while a server is unavailable, instead of giving up on a training run.

These retries run inside an attempt. Airflow's own retries, of whole attempts, are in
include/orchestration/retries.py.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeVar

import tenacity
from airflow.sdk.exceptions import AirflowRuntimeError, AirflowTaskTimeout, ErrorType

from include.errors import ProjectError, TransientError
from include.s3.errors import RefusedForNow, StoreMisconfigured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

log = logging.getLogger(__name__)

T = TypeVar("T")

_LONGEST_WAIT = 15 * 60
_LONGEST_PAUSE = 15


class BackendUnavailable(TransientError):
    """The host application's backend does not respond, or responds that it is unavailable."""


def retry_while_unavailable(do: Callable[[], T], seconds: float = _LONGEST_WAIT) -> T:
    """Return the result of do(), which is retried while a server is unavailable.

    Retries end after `seconds` (default: 15 minutes); then the last transient error is raised. Any other
    error is raised immediately. The time limit does not interrupt a call to do().
    """
    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(is_transient),
        wait=tenacity.wait_exponential(max=_LONGEST_PAUSE),
        stop=tenacity.stop_after_delay(seconds),
        before_sleep=_log_retry,
        reraise=True,
    )(do)


@contextmanager
def treat_refusals_as_temporary(has_state: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """Turn a misconfiguration of S3 (wrong keys, clock or bucket) into RefusedForNow, which callers retry.

    Use this for code that handles a stored state: days of training must not be lost because of a rotated key.
    `has_state` returns whether there is a state; it is called only after a refusal.
    """
    try:
        yield
    except StoreMisconfigured as error:
        if not has_state():
            raise
        raise RefusedForNow(
            f"{error}. The training state is kept, and retries continue for at least two hours"
        ) from error


def list_database_errors() -> tuple[type[Exception], ...]:
    """Return psycopg's errors for a database that is unavailable, busy, or a replica not yet promoted."""
    from psycopg import InterfaceError, OperationalError
    from psycopg.errors import IdleInTransactionSessionTimeout, ReadOnlySqlTransaction

    return OperationalError, InterfaceError, ReadOnlySqlTransaction, IdleInTransactionSessionTimeout


def is_transient(error: BaseException) -> bool:
    """Return whether a retry can help, now or in another attempt, because a server is unavailable."""
    if isinstance(error, ProjectError):
        return isinstance(error, TransientError)
    if isinstance(error, AirflowRuntimeError):
        return _is_airflow_away(error)
    if isinstance(error, AirflowTaskTimeout):
        return True  # only tasks that merely wait for a server have an execution_timeout
    error = getattr(error, "orig", error)  # SQLAlchemy wraps psycopg's errors
    return isinstance(error, list_database_errors() + _list_schema_errors())


def _list_schema_errors() -> tuple[type[Exception], ...]:
    """Return the errors that psycopg raises until `migrate_schema` has run.

    In an upgrade, the new code may run before it. It also grants the rights on new tables, at its end, and
    those of a new role.
    """
    from psycopg.errors import InsufficientPrivilege, UndefinedColumn, UndefinedTable

    return UndefinedColumn, UndefinedTable, InsufficientPrivilege


def _is_airflow_away(error: AirflowRuntimeError) -> bool:
    """Return whether the task's supervisor got a server error, or no response, from the API server."""
    status = (error.error.detail or {}).get("status_code")
    is_refusal = status is not None and status < HTTPStatus.INTERNAL_SERVER_ERROR
    return error.error.error == ErrorType.API_SERVER_ERROR and not is_refusal


def _log_retry(state: tenacity.RetryCallState) -> None:
    assert state.outcome is not None  # noqa: S101 - tenacity calls this after an attempt
    log.warning("%s; retrying in %.0f s.", str(state.outcome.exception()).strip(), state.upcoming_sleep)
