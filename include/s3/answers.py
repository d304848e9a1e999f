"""A stored object counts as stored, also where the answer that says so never comes."""

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
    """Return what send() returns, or what look() finds once nothing was sent or answered for `seconds`.

    Behind a connection that is half open, an answer would be waited for until the client's time-out. send
    runs in a thread of its own, which looks after itself when it is not waited for any more: it sends
    nothing. Raises what send does, and UploadGivenUp.
    """
    answer: Future[str] = Future()
    request = WatchedRequest()

    def run() -> None:
        request.watch()
        try:
            answer.set_result(send())
        except BaseException as error:  # whatever it is, it is the caller's
            answer.set_exception(error)

    threading.Thread(target=copy_context().run, args=(run,), name="upload", daemon=True).start()
    try:
        while not wait([answer], timeout=seconds).done:
            if request.silent_seconds >= seconds and (found := _found(look)) is not None:
                return found
        return answer.result()
    finally:
        request.abandon()


def _found(look: Callable[[], str | None]) -> str | None:
    """Look, which is no sign that the upload gets on."""
    check_deadline()
    try:
        return copy_context().run(_without_deadline, look)
    except UploadGivenUp:
        raise
    except StoreError:  # the request that is waited for tells of it
        return None


def _without_deadline(look: Callable[[], str | None]) -> str | None:
    forget_deadline()
    return look()
