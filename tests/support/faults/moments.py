"""The moments of a job, in order."""

from __future__ import annotations

import signal

from tests.support.faults.fault import Moment
from tests.support.faults.hold import Contact
from tests.support.killing import Place


def _any(contact: Contact) -> bool:
    """Accept every contact, so that the first one of the task, with either server, is held."""
    return bool(contact.server)


def _sends_last(contact: Contact) -> bool:
    return contact.method == "PUT" and contact.path.endswith("/last.pt")


def _reads_last(contact: Contact) -> bool:
    return contact.method == "GET" and contact.path.endswith("/last.pt")


def _stops_at(name: str, times: int = 1) -> Place:
    """Return a place at which the process stops itself until the fault has been injected."""
    return Place(name, times, signal.SIGSTOP)


_IN_A_BATCH = 17
"""The 17th of the 36 batches of the training run is in the second epoch."""

CHECKING = Moment("checking the schema", "check_schema", _any)

MOMENTS = (
    Moment("waiting", "resolve_config", _any),
    Moment("starting", "train", _any),
    Moment("in a batch", "train", _stops_at("on_train_batch_end", _IN_A_BATCH)),
    Moment("saving", "train", _stops_at("os.rename last.pt.part", 2)),
    Moment("uploading", "train", _sends_last),
    Moment("validating", "train", _stops_at("on_val_start", 2)),
    Moment("ending", "train", _stops_at("on_train_end")),
    Moment("recovering", "train", _reads_last, machine_lost=True),
    Moment("upload tasks", "upload_last", _any),
    Moment("record", "record_checkpoints", _any),
    Moment("notify", "notify_backend", _any),
)
