"""Faults of S3 and of the connection to it."""

from __future__ import annotations

from tests.support.faults.fault import Fault
from tests.support.faults.moments import MOMENTS
from tests.support.faults.s3_proxy import Behaviour, answer_with, corrupt, throttle


def _make_fault(
    name: str,
    behaviour: Behaviour,
    moments: tuple[str, ...] | None = None,
    ends: tuple[str | None, ...] = ("completed",),
) -> Fault:
    return Fault(name, "S3", lambda job: job.scene.s3.behave_as(behaviour), moments=moments, ends=ends)


def _make_refusals(name: str, code: str) -> tuple[Fault, Fault]:
    """Return faults that a person must fix; they are final only if the training run has no state to lose."""
    behaviour = answer_with(403, code)
    return (
        _make_fault(name, behaviour, _NOTHING_AT_STAKE, ends=("failed", None)),
        _make_fault(name, behaviour, tuple(m.name for m in MOMENTS if m.name not in _NOTHING_AT_STAKE)),
    )


_NOTHING_AT_STAKE = ("waiting", "starting")

_DOWNLOADS = ("waiting", "starting", "recovering")
"""The moments at which the job downloads objects."""


def _half(body: bytes) -> bytes:
    return body[: len(body) // 2]


def flip_bit(body: bytes) -> bytes:
    """Return the body with one bit in the middle flipped."""
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]


S3_FAULTS = (
    Fault("S3 refused", "S3", lambda job: job.scene.s3.refuse()),
    Fault("S3 hung", "S3", lambda job: job.scene.s3.hang()),
    _make_fault("S3 answers 500", answer_with(500, "InternalError")),
    _make_fault("S3 answers 503", answer_with(503, "SlowDown")),
    *_make_refusals("S3 answers 403", "AccessDenied"),
    *_make_refusals("S3 keys rotated", "InvalidAccessKeyId"),
    *_make_refusals("S3 clock skew", "RequestTimeTooSkewed"),
    _make_fault("S3 error inside 200", answer_with(200, "InternalError")),
    _make_fault("S3 truncated bytes", corrupt(_half), _DOWNLOADS),
    _make_fault("S3 wrong bytes", corrupt(flip_bit), _DOWNLOADS),
    _make_fault("S3 slow link", throttle(200_000)),
)
