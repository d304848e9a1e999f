"""Deadlines for uploads, because socket time-outs do not detect a connection that is merely very slow."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from include.s3.errors import StoreError, StoreRefusal, UploadGivenUp

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_CURRENT: ContextVar[Deadline | None] = ContextVar("upload_deadline", default=None)
_REQUEST: ContextVar[WatchedRequest | None] = ContextVar("watched_request", default=None)


class Deadline:
    """The time by which an upload must end, `seconds` from now; any thread may make it expire immediately.

    After the deadline, no request starts and botocore retries none, except the one that aborts an upload. A
    request that is sending its body fails at the next read of the body, and its connection is closed, so the
    rest never reaches S3. The deadline bounds only the sending; the client's time-out bounds the wait for the
    response.
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
    """Expires if, for `seconds`, an upload gets no response and sends fewer than `least_bytes` bytes.

    A large upload may therefore take longer than a small one.
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


class WatchedRequest:
    """A request whose response is awaited by another thread, which may abandon the request."""

    def __init__(self) -> None:
        self._is_abandoned = False
        self._last_sign = time.monotonic()

    @property
    def silent_seconds(self) -> float:
        """Seconds since something was last sent."""
        return time.monotonic() - self._last_sign

    def abandon(self) -> None:
        """Stop sending this request, including botocore's retries."""
        self._is_abandoned = True

    def watch(self) -> None:
        """Make this the watched request of the current thread: whatever the thread sends is recorded here."""
        _REQUEST.set(self)

    def check(self) -> None:
        """Record a sign of activity. Raise UploadGivenUp if the request was abandoned."""
        self._last_sign = time.monotonic()
        if self._is_abandoned:
            raise UploadGivenUp("The request was abandoned, because S3 already has the object.")


def check_deadline(bytes_transferred: int = 0, **_: object) -> None:
    """Record that bytes are being sent. Raise UploadGivenUp if this thread must not send any more."""
    if (request := _REQUEST.get()) is not None:
        request.check()
    if (deadline := _CURRENT.get()) is not None:
        deadline.check()
        deadline.record_sent(bytes_transferred)


def forget_deadline() -> None:
    """Exempt the requests of this thread's context from the deadline; they neither obey nor extend it."""
    _CURRENT.set(None)


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
