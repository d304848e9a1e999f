"""The types of the fault matrix: faults, their moments and their outcomes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from tests.support.faults.hold import Contact
from tests.support.killing import Machine, Place

if TYPE_CHECKING:
    from tests.support.faults.job import Job


class Moment(NamedTuple):
    """The moment of a fault: a task of train_yolo, and a place in its code or a contact with a server.

    With machine_lost, an earlier attempt has died with its machine, and the fault happens in the next one.
    """

    name: str
    task: str
    at: Place | Callable[[Contact], bool]
    machine_lost: bool = False


class Fault(NamedTuple):
    """A fault, which lasts for `seconds`. The context manager `inject` causes it at the chosen moment.

    `ends` are the allowed final states of the row; None among them means that the row no longer exists.
    `moments` are the names of the moments at which the fault makes sense; None means all in MOMENTS. With
    `own_data`, the job gets its own copy of the data, because the fault changes the data.
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
    """The reported outcome of a job; `problems` describes broken guarantees."""

    status: str | None = None
    sentence: str = ""
    recovered: float | None = None
    lost: float = 0.0
    attempts: int = 0
    weights: str = "none"
    problems: list[str] = field(default_factory=list)


NONE = Fault("none", "none", lambda job: nullcontext())
