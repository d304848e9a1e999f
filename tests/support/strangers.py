"""Processes of another account (only if the tests run as root), and what they can read and reach."""

from __future__ import annotations

import os
import pickle
import socket
import ssl
import stat
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from include.stack.ports import LOOPBACK

T = TypeVar("T")

NOBODY = 65534

IS_ROOT = os.geteuid() == 0

HTTP = b"GET /status HTTP/1.0\r\n\r\n"

GRPC = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
"""The first bytes of a gRPC client; a server that accepts them answers with its settings (frame type 4)."""


def as_stranger(look: Callable[[], T]) -> T:
    """Return the result of `look` in another process, which runs as `nobody` if the tests run as root.

    Otherwise it runs under our own account, which makes no difference if `look` uses none of our files.
    """
    return as_account(NOBODY, NOBODY, [], look) if IS_ROOT else in_child(look)


def as_account(user: int, group: int, groups: list[int], look: Callable[[], T]) -> T:
    """Return the result of `look` in a process with these ids; only root may call this."""

    def changed() -> T:
        os.setgroups(groups)
        os.setgid(group)
        os.setuid(user)
        return look()

    return in_child(changed)


def in_child(look: Callable[[], T]) -> T:
    """Run `look` in a forked process; return its result, or raise its exception with the traceback."""
    with tempfile.TemporaryFile() as answer:
        child = os.fork()
        if child == 0:
            try:
                pickle.dump((True, look()), answer)
            except BaseException:
                answer.seek(0)
                pickle.dump((False, traceback.format_exc()), answer)
            finally:
                answer.flush()
                os._exit(0)
        os.waitpid(child, 0)
        answer.seek(0)
        succeeded, result = pickle.load(answer)  # noqa: S301 - written by the line above
    assert succeeded, result
    value: T = result
    return value


def demands_certificate(port: int) -> bool:
    """Return whether the server refuses every client without a certificate, with and without TLS."""
    http, grpc = (answer(port, sent) for sent in (HTTP, GRPC))
    plainly = http.startswith((b"HTTP/1.0 400", b"HTTP/1.1 400")) or not http
    return plainly and grpc[3:4] != b"\4" and all(refused_over_tls(port, sent) for sent in (HTTP, GRPC))


def answer(port: int, sent: bytes) -> bytes:
    """Return the server's answer, or no bytes if it closes the connection."""
    with socket.create_connection((LOOPBACK, port), timeout=10) as connection, suppress(ConnectionError):
        connection.sendall(sent)
        return connection.recv(1000)
    return b""


def refused_over_tls(port: int, sent: bytes) -> bool:
    """Return whether the server closes a TLS connection because the client has no certificate."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    try:
        with (
            socket.create_connection((LOOPBACK, port), timeout=10) as connection,
            context.wrap_socket(connection) as encrypted,
        ):
            encrypted.sendall(sent)
            encrypted.recv(1000)
    except ssl.SSLError as error:
        return error.reason == "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    return False


def readable_by_others(folder: Path) -> Iterator[Path]:
    """Yield the files below `folder` that every account could read or write."""
    for path in folder.iterdir():
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            if mode & stat.S_IXOTH:
                yield from readable_by_others(path)
        elif mode & (stat.S_IROTH | stat.S_IWOTH):
            yield path
