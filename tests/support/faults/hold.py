"""Holds one contact with a server, so that a fault can be injected in the middle of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple


class Contact(NamedTuple):
    """A contact with a server: a request to S3, or a connection to PostgreSQL."""

    server: str
    method: str = ""
    path: str = ""


@dataclass
class Hold:
    """Holds a chosen contact; both proxies call `pass_by` before they forward anything."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _wanted: Callable[[Contact], bool] | None = None
    _held: threading.Event = field(default_factory=threading.Event)
    _released: threading.Event = field(default_factory=threading.Event)

    def next(self, wanted: Callable[[Contact], bool]) -> None:
        """Hold the next contact for which `wanted` returns True."""
        self._held.clear()
        self._released.clear()
        self._wanted = wanted

    def is_held(self) -> bool:
        """Return whether a contact is held."""
        return self._held.is_set()

    def release(self) -> None:
        """Release the contact, and hold no further ones."""
        self._wanted = None
        self._held.clear()
        self._released.set()

    def pass_by(self, contact: Contact) -> None:
        """If the contact must be held, return when it is released; otherwise, return immediately."""
        with self._lock:
            if self._wanted is None or not self._wanted(contact):
                return
            self._wanted = None
        self._held.set()
        self._released.wait()
