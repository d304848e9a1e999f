"""Waiting for servers that are away for a while, instead of giving a training up."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import tenacity

from include.checkpoints.errors import (
    LocalDiskError,
    RefusedForNow,
    StoreError,
    StoreMisconfigured,
    StoreRefusal,
)
from include.datasets.errors import StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

log = logging.getLogger(__name__)

T = TypeVar("T")

_LONGEST_WAIT = 15 * 60
_LONGEST_PAUSE = 15


def patiently(do: Callable[[], T]) -> T:
    """Return do(), tried again for up to 15 minutes while S3 or the training database do not answer.

    Raises what it raises in the end, and at once what waiting does not help against.
    """
    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(may_pass),
        wait=tenacity.wait_exponential(max=_LONGEST_PAUSE),
        stop=tenacity.stop_after_delay(_LONGEST_WAIT),
        before_sleep=_say,
        reraise=True,
    )(do)


@contextmanager
def persistent() -> Iterator[None]:
    """Raise RefusedForNow for what somebody has to correct in S3: keys, a clock, the bucket.

    For what handles a state that exists: days of training must not be given up for a key that was rotated.
    """
    try:
        yield
    except StoreMisconfigured as error:
        raise RefusedForNow(
            f"{error}. The state of this training is kept, and this is tried again until it succeeds"
        ) from error


def database_errors() -> tuple[type[Exception], ...]:
    """What psycopg raises where the database is away, busy, or a replica that was not promoted yet."""
    from psycopg import InterfaceError, OperationalError
    from psycopg.errors import ReadOnlySqlTransaction

    return OperationalError, InterfaceError, ReadOnlySqlTransaction


def may_pass(error: BaseException) -> bool:
    """Whether it is a server that is away, so that waiting helps, or another attempt."""
    if isinstance(error, (StoreRefusal, LocalDiskError)):
        return False
    return isinstance(error, (StoreError, StorageUnavailable, *database_errors()))


def _say(state: tenacity.RetryCallState) -> None:
    assert state.outcome is not None  # noqa: S101 - tenacity calls this after an attempt
    log.warning("%s; trying again in %.0f s.", str(state.outcome.exception()).strip(), state.upcoming_sleep)
