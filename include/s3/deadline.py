"""An end for uploads that hang: time-outs of sockets do not notice a connection that trickles."""

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
    """The time by which an upload must have ended, `seconds` from now; any thread may bring it forward.

    After it no request begins, retries of botocore included, and no byte of a body is read any more: the
    request breaks off and its connection is closed, so that nothing is left that could still write. It
    bounds the sending. How long the server may stay silent, before or after it, is the client's time-out.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._at = time.monotonic() + seconds
        self._ended = False

    def end_now(self) -> None:
        """Expire now, and for good."""
        self._ended = True

    @property
    def over(self) -> bool:
        """Whether it has passed."""
        return self._ended or time.monotonic() >= self._at

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Bound the requests that this thread makes. Raises UploadGivenUp for one that was broken off."""
        token = _CURRENT.set(self)
        try:
            yield
        except StoreError as error:
            if isinstance(error, (StoreRefusal, UploadGivenUp)) or not self.over:
                raise
            raise self._given_up() from error
        finally:
            _CURRENT.reset(token)

    def check(self) -> None:
        """Raise UploadGivenUp if it has passed."""
        if self.over:
            raise self._given_up()

    def sent(self, size: int) -> None:
        """Note that so many bytes of a body were read to be sent."""

    def answered(self) -> None:
        """Note that the server has answered a request."""

    def _given_up(self) -> UploadGivenUp:
        return UploadGivenUp(
            f"The upload had not ended when its time was over (after {self._seconds:.0f} s, or when the "
            "training ended) and was given up; look at the network between this machine and S3"
        )


class StallDeadline(Deadline):
    """Expires when an upload makes no progress: `seconds` without an answer or `least_bytes` more sent.

    So the time that an upload may take follows from its size and its speed.
    """

    def __init__(self, seconds: float, least_bytes: int) -> None:
        super().__init__(seconds)
        self._least_bytes = least_bytes
        self._counted = 0

    def sent(self, size: int) -> None:
        """Move the end once enough bytes were sent. A retry that begins anew counts them again."""
        self._counted += max(size, 0)
        if self._counted >= self._least_bytes:
            self.answered()

    def answered(self) -> None:
        """Move the end."""
        self._counted = 0
        self._at = time.monotonic() + self._seconds

    def _given_up(self) -> UploadGivenUp:
        return UploadGivenUp(
            f"The upload was given up: for {self._seconds:.0f} s S3 answered nothing and took less than "
            f"{self._least_bytes} bytes, or the training ended; look at the network between this machine "
            "and S3"
        )


class WatchedRequest:
    """A request whose answer somebody waits for elsewhere, and may stop waiting for."""

    def __init__(self) -> None:
        self._abandoned = False
        self._last_sign = time.monotonic()

    @property
    def silent_seconds(self) -> float:
        """How long nothing was sent."""
        return time.monotonic() - self._last_sign

    def abandon(self) -> None:
        """Let nothing more of it be sent, retries of botocore included."""
        self._abandoned = True

    def watch(self) -> None:
        """Make the requests of this thread's context part of it."""
        _REQUEST.set(self)

    def check(self) -> None:
        """Raise UploadGivenUp if it was abandoned."""
        self._last_sign = time.monotonic()
        if self._abandoned:
            raise UploadGivenUp("The request was abandoned: S3 has the object.")


def check_deadline(bytes_transferred: int = 0, **_: object) -> None:
    """Note that so many bytes are sent. Raise UploadGivenUp where this thread may send nothing more."""
    if (request := _REQUEST.get()) is not None:
        request.check()
    if (deadline := _CURRENT.get()) is not None:
        deadline.check()
        deadline.sent(bytes_transferred)


def forget_deadline() -> None:
    """Let the requests of this thread's context neither end with a deadline nor move it."""
    _CURRENT.set(None)


def obey_deadlines(client: S3Client) -> None:
    """Let `client` send no request after the deadline, other than the one that removes an upload's parts."""
    client.meta.events.register("before-send.s3", _before_send, unique_id="upload-deadline")
    client.meta.events.register("after-call.s3", _after_call, unique_id="upload-deadline-answer")


def _before_send(event_name: str, **_: object) -> None:
    if not event_name.endswith(".AbortMultipartUpload"):
        check_deadline()


def _after_call(**_: object) -> None:
    if (deadline := _CURRENT.get()) is not None:
        deadline.answered()
