"""Waiting for servers that are away for a while, instead of giving a training up."""

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
    """The platform's backend does not respond, or responds that it is unavailable."""


def retry_while_unavailable(do: Callable[[], T], seconds: float = _LONGEST_WAIT) -> T:
    """Return do(), tried again for `seconds` (15 minutes) while S3 or the training database do not answer.

    Raises what it raises in the end, and at once what waiting does not help against.
    """
    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(is_transient),
        wait=tenacity.wait_exponential(max=_LONGEST_PAUSE),
        stop=tenacity.stop_after_delay(seconds),
        before_sleep=_log_retry,
        reraise=True,
    )(do)


@contextmanager
def treat_refusals_as_temporary(at_stake: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """Raise RefusedForNow for what somebody has to correct in S3: keys, a clock, the bucket.

    For what handles a state that exists: days of training must not be given up for a key that was rotated.
    Whether there is one is asked of `at_stake`, after a refusal only.
    """
    try:
        yield
    except StoreMisconfigured as error:
        if not at_stake():
            raise
        raise RefusedForNow(
            f"{error}. The state of this training is kept, and this is tried again until it succeeds"
        ) from error


def database_errors() -> tuple[type[Exception], ...]:
    """Return what psycopg raises where the database is away, busy, or a replica that was not promoted yet."""
    from psycopg import InterfaceError, OperationalError
    from psycopg.errors import ReadOnlySqlTransaction

    return OperationalError, InterfaceError, ReadOnlySqlTransaction


def is_transient(error: BaseException) -> bool:
    """Whether it is a server that is away, so that waiting helps, or another attempt."""
    if isinstance(error, ProjectError):
        return isinstance(error, TransientError)
    if isinstance(error, AirflowRuntimeError):
        return _is_airflow_away(error)
    if isinstance(error, AirflowTaskTimeout):
        return True  # only tasks that merely wait for a server have an execution_timeout
    error = getattr(error, "orig", error)  # SQLAlchemy wraps psycopg's errors
    return isinstance(error, database_errors() + _schema_behind())


def _schema_behind() -> tuple[type[Exception], ...]:
    """Return what psycopg raises during an update, between the new code and `migrate_schema`."""
    from psycopg.errors import UndefinedColumn, UndefinedTable

    return UndefinedColumn, UndefinedTable


def _is_airflow_away(error: AirflowRuntimeError) -> bool:
    """Whether the supervisor got no response from the API server, or a server error."""
    status = (error.error.detail or {}).get("status_code")
    refused = status is not None and status < HTTPStatus.INTERNAL_SERVER_ERROR
    return error.error.error == ErrorType.API_SERVER_ERROR and not refused


def _log_retry(state: tenacity.RetryCallState) -> None:
    assert state.outcome is not None  # noqa: S101 - tenacity calls this after an attempt
    log.warning("%s; trying again in %.0f s.", str(state.outcome.exception()).strip(), state.upcoming_sleep)
