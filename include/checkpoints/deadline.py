"""An end for uploads that hang: time-outs of sockets do not notice a connection that trickles."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from include.checkpoints.errors import StoreError, StoreRefusal, UploadGivenUp

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_CURRENT: ContextVar[Deadline | None] = ContextVar("upload_deadline", default=None)


class Deadline:
    """The time by which an upload must have ended, `seconds` from now; any thread may bring it forward.

    After it no request begins, retries of botocore included, and no byte of a body is read any more: the
    request breaks off and its connection is closed, so that nothing is left that could still write. It
    bounds the sending. How long the server may stay silent, before or after it, is the client's time-out.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._at = time.monotonic() + seconds

    def end_now(self) -> None:
        """Let it be over."""
        self._at = -math.inf

    @property
    def over(self) -> bool:
        """Whether it has passed."""
        return time.monotonic() >= self._at

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

    def _given_up(self) -> UploadGivenUp:
        return UploadGivenUp(
            f"The upload had not ended when its time was over (after {self._seconds:.0f} s, or when the "
            "training ended) and was given up; look at the network between this machine and S3"
        )


def check_deadline(**_: object) -> None:
    """Raise UploadGivenUp where the deadline that bounds this thread's requests has passed."""
    if (deadline := _CURRENT.get()) is not None:
        deadline.check()


def obey_deadlines(client: S3Client) -> None:
    """Let `client` send no request after the deadline, other than the one that removes an upload's parts."""
    client.meta.events.register("before-send.s3", _before_send, unique_id="upload-deadline")


def _before_send(event_name: str, **_: object) -> None:
    if not event_name.endswith(".AbortMultipartUpload"):
        check_deadline()
