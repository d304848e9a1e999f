"""Downloads a pretrained file over HTTP, from Ultralytics or from a mirror."""

from __future__ import annotations

import hashlib
import logging
import time
from base64 import b64encode
from dataclasses import dataclass
from http import HTTPStatus
from typing import IO, TYPE_CHECKING

from include.blocks import BLOCK, parse_content_length
from include.errors import FinalError
from include.limits import WEIGHTS_BYTES, WEIGHTS_SECONDS, in_words

if TYPE_CHECKING:
    from pathlib import Path

    from requests import Response

log = logging.getLogger(__name__)

_REDIRECTS = 5
"""Maximum number of redirects; GitHub sends one."""


class DownloadFailed(FinalError):
    """The file could not be downloaded; the message continues a sentence that starts with the file's URL."""


class _BrokenOff(DownloadFailed):
    """The server was unreachable or busy, closed the connection, or sent wrong bytes; a retry may succeed."""


@dataclass(frozen=True)
class DownloadLimits:
    """Limits of a download."""

    size: int = WEIGHTS_BYTES
    """Maximum size of the file in bytes."""
    seconds: float = WEIGHTS_SECONDS
    """Maximum duration of all tries together."""
    silent_seconds: float = 30
    """Maximum time without a byte."""
    tries: int = 3
    """Maximum number of requests for the file."""
    pause: float = 2
    """Seconds before a retry."""


def download(url: str, to: Path, limits: DownloadLimits) -> None:
    """Download `url` to the file `to`, following redirects, but none from https to http.

    The length and the checksum that the server states are verified. Raises DownloadFailed, and OSError if
    `to` cannot be created or closed.
    """
    deadline = time.monotonic() + limits.seconds
    for tries_left in reversed(range(limits.tries)):
        try:
            with to.open("wb") as file:
                _fetch(url, file, limits, deadline)
        except _BrokenOff as error:
            if tries_left == 0:
                raise
            log.warning("%s %s; retrying.", url, error)
            time.sleep(limits.pause)
        else:
            return


def _fetch(url: str, file: IO[bytes], limits: DownloadLimits, deadline: float) -> None:
    import requests

    encrypted = url.lower().startswith("https:")
    try:
        with requests.Session() as session:
            session.max_redirects = _REDIRECTS
            if encrypted:
                del session.adapters["http://"]  # no request is sent without encryption, even for a redirect
            with session.get(
                url,
                stream=True,
                timeout=(10, limits.silent_seconds),
                headers={"Accept-Encoding": "identity"},  # for the file's own length and checksum
            ) as response:
                _require_good(response)
                _receive(response, file, limits, deadline)
    except requests.TooManyRedirects:
        raise DownloadFailed(f"redirects more than {_REDIRECTS} times") from None
    except requests.exceptions.InvalidSchema:
        allowed = "https" if encrypted else "http or https"
        raise DownloadFailed(f"is, or redirects to, an address that is not {allowed}") from None
    except (requests.exceptions.InvalidURL, requests.exceptions.MissingSchema):
        raise DownloadFailed("is not a valid URL") from None
    except requests.RequestException as error:
        raise _BrokenOff(f"cannot be reached ({_describe(error)})") from error
    except OSError as error:
        raise DownloadFailed(f"could not be written to {file.name}: {error.strerror or error}") from error


def _require_good(response: Response) -> None:
    status = response.status_code
    if status == HTTPStatus.NOT_FOUND:
        raise DownloadFailed("does not exist (HTTP 404)")
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS:
        raise _BrokenOff(f"responds with HTTP {status}")
    if status != HTTPStatus.OK:
        raise DownloadFailed(f"responds with HTTP {status}")


def _receive(response: Response, file: IO[bytes], limits: DownloadLimits, deadline: float) -> None:
    size = parse_content_length(response.headers.get("Content-Length", ""))
    received, hashes = 0, {"sha256": hashlib.sha256(), "md5": hashlib.md5(usedforsecurity=False)}
    if size is not None:
        _require_size(size, limits)
    while block := _read_block(response, received, size):
        received += len(block)
        _require_size(received, limits)
        if time.monotonic() > deadline:
            raise DownloadFailed(f"sent only {received:,} bytes in {limits.seconds:g} seconds")
        file.write(block)
        for each in hashes.values():
            each.update(block)
    stated_hashes = {
        "SHA-256": (response.headers.get("X-Checksum-Sha256"), hashes["sha256"].hexdigest()),  # Artifactory's
        "MD5": (response.headers.get("Content-MD5"), b64encode(hashes["md5"].digest()).decode()),
    }
    for name, (wanted, found) in stated_hashes.items():
        if wanted is not None and wanted.strip().lower() != found.lower():
            raise _BrokenOff(
                f"sent bytes that do not match the checksum it sent: {name} is {found} instead of {wanted}"
            )


def _read_block(response: Response, received: int, size: int | None) -> bytes:
    """Return the bytes that have arrived; waiting for a full block could take forever on a slow server."""
    from urllib3.exceptions import HTTPError

    try:
        block: bytes = response.raw.read1(BLOCK)
    except HTTPError as error:  # also if fewer bytes arrived than the server announced
        arrived = f"{received:,} bytes" if size is None else f"{received:,} of {size:,} bytes"
        raise _BrokenOff(f"closed the connection after {arrived} ({_describe(error)})") from error
    return block


def _require_size(size: int, limits: DownloadLimits) -> None:
    if size > limits.size:
        raise DownloadFailed(f"is larger than {in_words(limits.size)}, the limit for pretrained files")


def _describe(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
