"""What is injected, when, and what is reported of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from tests.faults.hold import Contact
from tests.killing import Machine, Place

if TYPE_CHECKING:
    from tests.faults.job import Job


class Moment(NamedTuple):
    """When: a task of train_yolo, and a place in its code or what it asks a server.

    With machine_lost, it is in an attempt that follows one that died with its machine.
    """

    name: str
    task: str
    at: Place | Callable[[Contact], bool]
    machine_lost: bool = False


class Fault(NamedTuple):
    """inject makes it last for a block; the block lasts for so many seconds after the moment.

    ends are the states of the row that it may end in; None is that there is no row any more. moments are
    those that it makes sense at, by name; None is all. own_data is changed, so no other job's.
    """

    name: str
    group: str
    inject: Callable[[Job], AbstractContextManager[None]]
    seconds: float = 3.0
    ends: tuple[str | None, ...] = ("completed",)
    machine: Machine = Machine(threads=1)
    processes: int = 1
    moments: tuple[str, ...] | None = None
    own_data: bool = False


@dataclass
class Outcome:
    """What is reported of a job; problems are broken promises, in words."""

    status: str | None = None
    sentence: str = ""
    recovered: float | None = None
    lost: float = 0.0
    attempts: int = 0
    weights: str = "none"
    problems: list[str] = field(default_factory=list)


NONE = Fault("none", "none", lambda job: nullcontext())
