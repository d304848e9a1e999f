"""Finds out whether S3 has stored an object, even if the response to its upload never arrives."""

from __future__ import annotations

import threading
from concurrent.futures import Future, wait
from contextvars import copy_context
from typing import TYPE_CHECKING

from include.s3.deadline import WatchedRequest, check_deadline, forget_deadline
from include.s3.errors import StoreError, UploadGivenUp

if TYPE_CHECKING:
    from collections.abc import Callable


def answer_or_look(send: Callable[[], str], look: Callable[[], str | None], seconds: float) -> str:
    """Return the result of send(), or of look() if no byte is sent and no response arrives for `seconds`.

    On a half-open connection, the caller would otherwise wait until the client's time-out. `send` runs in a
    separate thread, which sends nothing more after this function has returned. Raises whatever `send`
    raises, and UploadGivenUp if the upload's deadline has passed.
    """
    answer: Future[str] = Future()
    request = WatchedRequest()

    def run() -> None:
        request.watch()
        try:
            answer.set_result(send())
        except BaseException as error:  # passed on to the caller
            answer.set_exception(error)

    threading.Thread(target=copy_context().run, args=(run,), name="upload", daemon=True).start()
    try:
        while not wait([answer], timeout=seconds).done:
            if request.silent_seconds >= seconds and (found := _look_outside_deadline(look)) is not None:
                return found
        return answer.result()
    finally:
        request.abandon()


def _look_outside_deadline(look: Callable[[], str | None]) -> str | None:
    """Return the result of look(), without counting its requests as progress of the upload."""
    check_deadline()
    context = copy_context()
    context.run(forget_deadline)
    try:
        return context.run(look)
    except UploadGivenUp:
        raise
    except StoreError:  # the pending upload will report the problem
        return None
