"""Deadlines for uploads, and a check whether S3 has an object although the response never arrives.

Socket time-outs do not detect a connection that is merely very slow.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from include.s3.errors import StoreError, StoreRefusal, UploadGivenUp

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_CURRENT: ContextVar[Deadline | None] = ContextVar("upload_deadline", default=None)
_REQUEST: ContextVar[_WatchedRequest | None] = ContextVar("watched_request", default=None)


class Deadline:
    """The time by which an upload must end, `seconds` from now; any thread may make it expire immediately.

    After the deadline, no request starts or is retried, except the one that aborts an upload. A request that
    is sending its body fails at the next read of the body. Its connection is closed, so the rest never
    reaches S3. Only the client's time-out bounds the wait for the response.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._at = time.monotonic() + seconds
        self._has_ended = False

    def end_now(self) -> None:
        """Expire now and permanently."""
        self._has_ended = True

    @property
    def has_passed(self) -> bool:
        """Whether the deadline has expired."""
        return self._has_ended or time.monotonic() >= self._at

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Apply the deadline to this thread. Raises UploadGivenUp if a request fails after the deadline."""
        token = _CURRENT.set(self)
        try:
            yield
        except StoreError as error:
            if isinstance(error, (StoreRefusal, UploadGivenUp)) or not self.has_passed:
                raise
            raise self._build_error() from error
        finally:
            _CURRENT.reset(token)

    def check(self) -> None:
        """Raise UploadGivenUp if the deadline has expired."""
        if self.has_passed:
            raise self._build_error()

    def record_sent(self, size: int) -> None:
        """Record that `size` bytes of a body were read to be sent."""

    def record_answer(self) -> None:
        """Record that the server has responded to a request."""

    def _build_error(self) -> UploadGivenUp:
        return UploadGivenUp(
            f"The upload did not finish in time (within {self._seconds:.0f} s, or before training ended) "
            "and was abandoned; check the network between this machine and S3"
        )


class StallDeadline(Deadline):
    """Expires if an upload gets no response for `seconds`, and sends fewer than `least_bytes` in that time.

    So a large upload may take longer than a small one.
    """

    def __init__(self, seconds: float, least_bytes: int) -> None:
        super().__init__(seconds)
        self._least_bytes = least_bytes
        self._counted = 0

    def record_sent(self, size: int) -> None:
        """Extend the deadline once enough bytes have been sent, including those that a retry sends again."""
        self._counted += max(size, 0)
        if self._counted >= self._least_bytes:
            self.record_answer()

    def record_answer(self) -> None:
        """Extend the deadline."""
        self._counted = 0
        self._at = time.monotonic() + self._seconds

    def _build_error(self) -> UploadGivenUp:
        return UploadGivenUp(
            "The upload was abandoned: either training ended, or S3 did not respond for "
            f"{self._seconds:.0f} s and read fewer than {self._least_bytes:,} bytes in that time; check the "
            "network between this machine and S3"
        )


@dataclass
class _WatchedRequest:
    """A request whose response is awaited by another thread."""

    last_sent: float = field(default_factory=time.monotonic)
    """When something was last sent."""
    is_abandoned: bool = False
    """Whether the other thread has given up the request, so that botocore must not retry it either."""


def check_deadline(bytes_transferred: int = 0, **_: object) -> None:
    """Record that bytes are being sent. Raise UploadGivenUp if this thread must not send any more."""
    if (request := _REQUEST.get()) is not None:
        request.last_sent = time.monotonic()
        if request.is_abandoned:
            raise UploadGivenUp("The request was abandoned, because S3 already has the object.")
    if (deadline := _CURRENT.get()) is not None:
        deadline.check()
        deadline.record_sent(bytes_transferred)


def obey_deadlines(client: S3Client) -> None:
    """Make `client` send no request after the deadline, except one that aborts an upload."""
    client.meta.events.register("before-send.s3", _check_before_send, unique_id="upload-deadline")
    client.meta.events.register("after-call.s3", _record_after_call, unique_id="upload-deadline-answer")


def _check_before_send(event_name: str, **_: object) -> None:
    if not event_name.endswith(".AbortMultipartUpload"):
        check_deadline()


def _record_after_call(**_: object) -> None:
    if (deadline := _CURRENT.get()) is not None:
        deadline.record_answer()


def answer_or_look(send: Callable[[], str], look: Callable[[], str | None], seconds: float) -> str:
    """Return the result of send(), or what look() finds once nothing has been sent for `seconds`.

    On a half-open connection, the caller would otherwise wait until the client's time-out. `send` runs in a
    separate thread, which sends nothing more after this function has returned. Raises whatever `send`
    raises, and UploadGivenUp if the upload's deadline has passed.
    """
    answer: Future[str] = Future()
    request = _WatchedRequest()

    def run() -> None:
        _REQUEST.set(request)
        try:
            answer.set_result(send())
        except BaseException as error:  # passed on to the caller
            answer.set_exception(error)

    threading.Thread(target=copy_context().run, args=(run,), name="upload", daemon=True).start()
    try:
        while not wait([answer], timeout=seconds).done:
            is_silent = time.monotonic() - request.last_sent >= seconds
            if is_silent and (found := _look_outside_deadline(look)) is not None:
                return found
        return answer.result()
    finally:
        request.is_abandoned = True


def _look_outside_deadline(look: Callable[[], str | None]) -> str | None:
    """Return the result of look(), without counting its requests as progress of the upload."""
    check_deadline()
    context = copy_context()
    context.run(_CURRENT.set, None)
    try:
        return context.run(look)
    except UploadGivenUp:
        raise
    except StoreError:  # the pending upload will report the problem
        return None
