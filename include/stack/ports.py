"""Free TCP ports on the loopback interface, and requests to servers there."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Mapping
from pathlib import Path

import requests

from include.stack.errors import StackError

LOOPBACK = "127.0.0.1"

CANDIDATES = range(15_000, 32_000)
"""Below the range that Linux assigns to outgoing connections, so that a chosen port stays free."""

GRPC_OFFSET = 10_000
"""SeaweedFS' admin server always listens for gRPC at this offset from its port."""

_chosen: set[int] = set()
"""Ports that this process has chosen; their servers may not be listening yet."""


def find_grpc_sockets(port: int) -> list[Path]:
    """Return the Unix sockets of SeaweedFS' servers with this gRPC port.

    A server that is killed leaves its sockets behind. SeaweedFS 4 always creates them in /tmp
    (https://github.com/seaweedfs/seaweedfs/pull/8856).
    """
    return list(Path("/tmp").glob(f"seaweedfs-*-grpc-{port}.sock"))  # noqa: S108


def is_free(port: int) -> bool:
    """Return whether a server could listen on `port` now.

    A port also counts as taken if another account has left a socket for it in /tmp: SeaweedFS could not
    replace that socket, and would never become ready.
    """
    if any(map(_is_foreign, find_grpc_sockets(port))):
        return False
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def _is_foreign(path: Path) -> bool:
    """Return whether the file belongs to another account, and so cannot be removed from /tmp by this one."""
    try:
        return os.geteuid() not in {0, path.lstat().st_uid}
    except FileNotFoundError:
        return False


def choose(*, with_grpc: bool = False) -> int:
    """Return a port that is free now, and that this process has not chosen before.

    With `with_grpc`, the port that is GRPC_OFFSET higher is also free.
    """
    candidates = range(CANDIDATES.start, CANDIDATES.stop - GRPC_OFFSET * with_grpc, CANDIDATES.step)
    tried = random.SystemRandom().sample(candidates, 200)
    for port in tried:
        wanted = {port, port + GRPC_OFFSET} if with_grpc else {port}
        if not wanted & _chosen and all(is_free(each) for each in wanted):
            _chosen.update(wanted)
            return port
    raise StackError(
        f"None of {len(tried)} random TCP ports on {LOOPBACK} from {candidates.start} to {candidates[-1]} is "
        "free. Stop some servers, then try again."
    )


def exempt_from_proxies(environment: Mapping[str, str]) -> dict[str, str]:
    """Return NO_PROXY with its hosts and those of the loopback interface, in both spellings."""
    given = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    hosts = list(filter(None, map(str.strip, given.split(","))))
    # A * exempts every host, but most programs heed it only if it is alone.
    exempt = "*" if hosts == ["*"] else ",".join(dict.fromkeys((*hosts, LOOPBACK, "localhost")))
    return {"NO_PROXY": exempt, "no_proxy": exempt}


def open_session() -> requests.Session:
    """Return a session without proxies: a proxy from the environment cannot reach the loopback interface."""
    session = requests.Session()
    session.trust_env = False
    return session
