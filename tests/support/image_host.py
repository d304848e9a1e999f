"""A real HTTPS server for images, with a self-signed certificate, that can misbehave."""

from __future__ import annotations

import ssl
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.certificates import certify
from tests.support.http_server import Handler, Server


@dataclass
class ImageHost:
    """The server's files and misbehaviour, and the requests that it has received."""

    url: str
    certificate: Path
    files: dict[str, bytes] = field(default_factory=dict)
    requested: Counter[str] = field(default_factory=Counter)
    """How often each path, with its query, was requested."""
    redirects: dict[str, str] = field(default_factory=dict)
    status: dict[str, list[int]] = field(default_factory=dict)
    """The statuses with which the first requests for a path are answered, one after the other."""
    cut: dict[str, int] = field(default_factory=dict)
    """How often only half of a file is sent before the whole file is sent."""
    drip: set[str] = field(default_factory=set)
    """The paths of files that are sent a byte at a time."""
    agents: list[dict[str, str]] = field(default_factory=list)
    """The headers of all requests."""

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


class _Handler(Handler):
    host: ImageHost

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.host.requested[self.path] += 1
        self.host.agents.append(dict(self.headers))
        if path in self.host.redirects:
            self.respond(302, headers={"Location": self.host.redirects[path]})
        elif statuses := self.host.status.get(path):
            self.respond(statuses.pop(0))
        elif (content := self.host.files.get(path)) is None:
            self.respond(404)
        else:
            self.respond(200, headers={"Content-Length": str(len(content))})
            self._send(path, content)

    def _send(self, path: str, content: bytes) -> None:
        if self.host.cut.get(path):
            self.host.cut[path] -= 1
            content = content[: len(content) // 2]
        step = 1 if path in self.host.drip else max(len(content), 1)
        try:
            for start in range(0, len(content), step):
                self.wfile.write(content[start : start + step])
                time.sleep(0.05 if path in self.host.drip else 0)
        except OSError:
            return  # the client has closed the connection


@contextmanager
def serving_images(folder: Path) -> Iterator[ImageHost]:
    """Serve images on a free port of this machine, and write the certificate to the folder."""
    certificate, key = certify("localhost", folder)
    handler = type("Handler", (_Handler,), {})
    server = Server(handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # of clients that do not trust it
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    host = ImageHost(f"https://localhost:{server.server_port}", certificate)
    handler.host = host  # type: ignore[attr-defined]
    with server:
        yield host
