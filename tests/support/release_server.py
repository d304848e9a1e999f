"""A real HTTP server that replaces Ultralytics' release address, and a finder of weights that uses it."""

from __future__ import annotations

import hashlib
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg

from include.models.signing import ModelSigning
from include.s3.bucket import Bucket
from include.weights.download import DownloadLimits
from include.weights.initial import InitialWeightsFinder
from tests.support.http_server import Handler, Server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

QUICKLY = DownloadLimits(size=64 * 1024**2, seconds=120, silent_seconds=60, tries=2, pause=0.01)


@dataclass
class Release:
    """The server's files and misbehaviour; `asked` are the requested paths."""

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    """Whether to send only half of each file and close the connection."""
    drip: float = 0
    """If not 0, each file is sent in a hundred pieces with this many seconds after each piece."""
    redirect_to: str | None = None
    status: int = 200
    requested: list[str] = field(default_factory=list)


class _Handler(Handler):
    release: Release

    def do_GET(self) -> None:
        release = self.release
        release.requested.append(self.path)
        content = release.files.get(self.path.rpartition("/")[2])
        if release.redirect_to is not None and not self.path.startswith("/moved/"):
            self.respond(302, headers={"Location": f"{release.redirect_to}/moved{self.path}"})
        elif release.status != 200 or content is None:
            self.respond(404 if release.status == 200 else release.status)
        else:
            self.respond(200, headers={"Content-Length": str(len(content)), **release.headers})
            self._send(content[: len(content) // 2] if release.cut else content)

    def _send(self, content: bytes) -> None:
        step = max(len(content) // 100, 1) if self.release.drip else max(len(content), 1)
        try:
            for start in range(0, len(content), step):
                self.wfile.write(content[start : start + step])
                time.sleep(self.release.drip)
        except OSError:
            return  # the client has closed the connection


@contextmanager
def serving() -> Iterator[Release]:
    """Serve releases on a free port of this machine; yield the release."""
    handler = type("Handler", (_Handler,), {})
    with Server(handler) as server:
        handler.release = release = Release(f"{server.url}/v8.4.0")  # type: ignore[attr-defined]
        yield release


def md5_of(content: bytes) -> str:
    """Return the MD5 of the content as in the header Content-MD5."""
    return b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()


def finder(
    client: S3Client,
    bucket: str,
    connection: psycopg.Connection[Any],
    url: str | None = None,
    signing: ModelSigning | None = None,
) -> InitialWeightsFinder:
    """Return a finder of weights that downloads only with `url`, and verifies only with `signing`."""
    return InitialWeightsFinder(Bucket(client, bucket), url, connection, signing or ModelSigning(), QUICKLY)
