"""Processes that must not use the network."""

from __future__ import annotations

import sys
from typing import Any


def refuse_network() -> None:
    """End this process if it connects to an address or looks one up."""

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        if event in {"socket.connect", "socket.getaddrinfo"}:
            raise SystemExit(f"the network was asked: {event} {arguments}")

    sys.addaudithook(refuse)
