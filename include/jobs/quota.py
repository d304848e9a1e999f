"""Limits for each user: concurrent GPUs, and GPU hours per week."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

GPUS, HOURS, USERS = "QUOTA_GPUS", "QUOTA_GPU_HOURS", "QUOTA_USERS"
"""Names of the settings."""

_UNLIMITED = "none"


@dataclass(frozen=True)
class Quota:
    """The limits of one user; None means no limit."""

    gpus: int | None = None
    """How many GPUs the user's jobs may have at the same time."""
    gpu_hours: float | None = None
    """GPU hours per week (Monday to Sunday, UTC); once they are used up, no new training run starts."""


@dataclass(frozen=True)
class Quotas:
    """The quota of every user: the default, or the exception for that user."""

    default: Quota = Quota()
    """The quota of every user without an exception."""
    users: Mapping[str, Quota] = field(default_factory=dict)
    """The exceptions, by the user's name in Airflow."""

    @classmethod
    def parse(cls, gpus: str, gpu_hours: str, users: str) -> Quotas:
        """Read the three settings; an empty one sets no limit.

        `users` lists exceptions to the other two settings, each with the GPUs at a time and the GPU hours per
        week: "alice=4:100, bob=none:40". Raises ValueError with a sentence that names the setting, its value
        and the remedy.
        """
        default = Quota(_parse_gpus(gpus, GPUS), _parse_hours(gpu_hours, HOURS))
        entries = [entry.strip() for entry in users.split(",") if entry.strip()]
        return cls(default, dict(_parse_entry(entry) for entry in entries))

    def of(self, user: str | None) -> Quota:
        """Return the user's quota. An unknown user (None) has no limits: a refusal has to name a user."""
        return Quota() if user is None else self.users.get(user, self.default)


def _parse_entry(entry: str) -> tuple[str, Quota]:
    user, _, limits = entry.rpartition("=")
    gpus, _, hours = limits.partition(":")
    if not (user.strip() and gpus.strip() and hours.strip()):
        raise ValueError(
            f"{USERS} has {entry!r:.80}, which is not an exception like alice=4:100 (concurrent GPUs, then "
            f"GPU hours per week; {_UNLIMITED} for no limit); correct it, and separate exceptions with commas"
        )
    return user.strip(), Quota(_parse_gpus(gpus, USERS), _parse_hours(hours, USERS))


def _parse_gpus(given: str, setting: str) -> int | None:
    limit = _parse_limit(given, setting, "a whole number of GPUs")
    if limit is not None and not limit.is_integer():
        raise _build_refusal(given, setting, "a whole number of GPUs")
    return None if limit is None else int(limit)


def _parse_hours(given: str, setting: str) -> float | None:
    return _parse_limit(given, setting, "a number of GPU hours")


def _parse_limit(given: str, setting: str, what: str) -> float | None:
    """Return the limit; None for no limit. With a limit of 0, the user can start nothing."""
    text = given.strip().lower()
    if text in {"", _UNLIMITED}:
        return None
    with suppress(ValueError):
        if 0 <= (number := float(text)) < math.inf:
            return number
    raise _build_refusal(given, setting, what)


def _build_refusal(given: str, setting: str, what: str) -> ValueError:
    return ValueError(
        f"{setting}={given.strip()!r:.20} is not {what}; correct it, or give {_UNLIMITED} for no limit"
    )
