"""Reads lock files: the version, platform marker and file hashes of each package."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple


class Pin(NamedTuple):
    """A pinned version of a package."""

    package: str
    version: str
    marker: str
    """The PEP 508 marker of the platforms on which the package is installed; empty means all platforms."""
    hashes: frozenset[str]
    """The hashes of the files that may be installed, such as sha256:0123…"""

    @property
    def requirement(self) -> str:
        return f"{self.package}=={self.version}"


def read_lock(lock: Path) -> list[Pin]:
    """Return the pins in the order of the file."""
    return [_pin(entry) for entry in re.findall(r"^[a-z0-9](?:.*\\\n)*.*$", lock.read_text(), re.MULTILINE)]


def _pin(entry: str) -> Pin:
    requirement, *hashes = re.split(r"\s+--hash=", entry.replace("\\\n", " "))
    pinned, _, marker = requirement.partition(";")
    package, _, version = pinned.strip().partition("==")
    return Pin(package, version, marker.strip(), frozenset(each.strip() for each in hashes))
