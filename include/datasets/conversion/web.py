"""Fetches images from the URLs of an export: https only, from allowed hosts, with limits.

A signed URL is a secret until it expires, so messages contain URLs without their query strings. The
libraries' errors contain whole URLs, so they are never chained to ours.
"""

from __future__ import annotations

import logging
import os
import re
import ssl
import time
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from include.blocks import parse_content_length
from include.datasets.conversion.addresses import SETTING, parse_address, without_query
from include.errors import TransientError
from include.limits import IMAGE_BYTES, URL_SECONDS, in_words

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from requests import Response, Session

    from include.datasets.conversion.addresses import AllowedHosts

log = logging.getLogger(__name__)

_BLOCK = 256 * 1024
_REDIRECTS = 3
_CONNECT_AND_READ_SECONDS = 10, 30
_LIBRARY_LOGS = "urllib3.connectionpool"
_QUERY = re.compile(r"\?[^ \"]*")


class ImagesUnavailable(TransientError):
    """An image host is temporarily unavailable; images already fetched stay on this machine for a retry."""


class FetchRefused(Exception):
    """A file cannot be fetched, and a retry would not help. The text says why, without the URL."""


class _Interrupted(Exception):
    """The host did not respond, was busy or failed, or the transfer was interrupted; a retry may succeed."""


class _PeerRefused(Exception):
    """A connection was made to an address that is not allowed."""


@dataclass(frozen=True)
class FetchLimits:
    """Limits on the download of one file."""

    size: int = IMAGE_BYTES
    """In bytes."""
    seconds: float = URL_SECONDS
    """Seconds that one attempt may take."""
    tries: int = 3
    """Number of attempts."""
    pause: float = 2
    """Seconds before the first retry; doubled for each further retry."""


class WebReader:
    """Fetches files over several connections. Safe to use from several threads."""

    def __init__(self, allowed: AllowedHosts, limits: FetchLimits, session: Session) -> None:
        self._allowed, self._limits, self._session = allowed, limits, session

    def fetch(self, url: str, to: Path) -> None:
        """Fetch `url` to the file `to`, which appears once it is complete.

        Raises FetchRefused, ImagesUnavailable and OSError.
        """
        partial = to.with_name(f".{to.name}.partial")
        to.parent.mkdir(parents=True, exist_ok=True)
        problem = ""
        for attempt in range(self._limits.tries):
            if attempt:
                time.sleep(self._limits.pause * 2 ** (attempt - 1))
            try:
                self._fetch(url, partial)
            except _Interrupted as interruption:
                problem = str(interruption)
            else:
                partial.rename(to)
                return
        raise ImagesUnavailable(
            f"{without_query(url)} {problem}, {self._limits.tries} times in a row. Fetched files are kept "
            "on this machine, so a retry here fetches only the rest"
        )

    def _fetch(self, url: str, partial: Path) -> None:
        deadline = time.monotonic() + self._limits.seconds
        for _ in range(_REDIRECTS + 1):
            self._require_allowed(url)
            with self._open(url) as response:
                if not response.is_redirect:
                    _require_good(response.status_code)
                    self._receive(response, partial, deadline)
                    return
                with _translate_errors("cannot be reached"):
                    url = urljoin(url, response.headers["Location"])
        raise FetchRefused(f"the host redirects more than {_REDIRECTS} times")

    def _require_allowed(self, url: str) -> None:
        try:
            address = parse_address(url)
        except ValueError as problem:
            raise FetchRefused(f"the host redirects to an address that is refused: {problem}") from None
        if not self._allowed.allows(address):
            raise FetchRefused(
                f"the host redirects to {address}, which is not in {SETTING}; have it added there, or upload "
                "the images to S3"
            )

    @contextmanager
    def _open(self, url: str) -> Iterator[Response]:
        """Send the request, and translate its errors into ours, which do not contain the URL."""
        from requests.utils import get_environ_proxies

        with _translate_errors("cannot be reached"):
            response = self._session.get(
                url,
                stream=True,
                allow_redirects=False,
                timeout=_CONNECT_AND_READ_SECONDS,
                proxies=get_environ_proxies(url),
                verify=os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True,
                headers={"Accept-Encoding": "identity"},
            )
        with response:
            yield response

    def _receive(self, response: Response, partial: Path, deadline: float) -> None:
        size = parse_content_length(response.headers.get("Content-Length", ""))
        self._require_size(size or 0)
        received = 0
        with partial.open("wb") as file:
            while block := _receive_block(response):
                received += len(block)
                self._require_size(received)
                if time.monotonic() > deadline:
                    raise FetchRefused(f"it takes longer than the limit of {self._limits.seconds:g} seconds")
                file.write(block)
        if size is not None and received != size:
            raise _Interrupted(f"was cut off after {received:,} of {size:,} bytes")

    def _require_size(self, size: int) -> None:
        if size > self._limits.size:
            raise FetchRefused(f"it exceeds the limit of {in_words(self._limits.size)}")


@contextmanager
def open_web(allowed: AllowedHosts, limits: FetchLimits, connections: int) -> Iterator[WebReader]:
    """Yield a reader that connects only to allowed hosts, and to private addresses only if they are listed.

    If requests go through a proxy, the proxy decides which addresses are allowed.
    """
    import requests

    library = logging.getLogger(_LIBRARY_LOGS)
    with requests.Session() as session:
        session.trust_env = False  # no credentials from ~/.netrc; `_open` reads proxies and certificates
        session.adapters.clear()
        session.mount("https://", _make_adapter(allowed, connections))
        library.addFilter(_strip_query)
        try:
            yield WebReader(allowed, limits, session)
        finally:
            library.removeFilter(_strip_query)


def _make_adapter(allowed: AllowedHosts, connections: int) -> Any:
    """Return an adapter for `requests` that refuses connections to addresses that are not allowed.

    The address is checked on the open connection, before anything is sent. A look-up beforehand could return
    a different address than that of the connection.
    """
    from requests.adapters import HTTPAdapter
    from urllib3.connection import HTTPSConnection
    from urllib3.connectionpool import HTTPSConnectionPool

    class Connection(HTTPSConnection):
        def _new_conn(self) -> Any:
            connected = super()._new_conn()
            peer = connected.getpeername()[0]
            if allowed.allows_peer(peer):
                return connected
            connected.close()
            raise _PeerRefused(peer)

    class Pool(HTTPSConnectionPool):
        ConnectionCls = Connection

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *given: Any, **options: Any) -> None:
            super().init_poolmanager(*given, **options)
            # This leaves out connections to a proxy: the proxy connects to the host, so its rules apply.
            self.poolmanager.pool_classes_by_scheme = {"https": Pool}

    return Adapter(pool_connections=connections, pool_maxsize=connections)


@contextmanager
def _translate_errors(what: str) -> Iterator[None]:
    """Translate errors of requests and urllib3 into ours, which contain `what` but no part of the URL."""
    from requests import RequestException
    from urllib3.exceptions import HTTPError

    refusal: Exception | None = None
    try:
        yield
    except _PeerRefused as refused:
        refusal = FetchRefused(
            f"the host has the address {refused}, which is not public; have this address added to {SETTING}, "
            "or upload the images to S3"
        )
    except (RequestException, HTTPError, OSError) as error:
        refusal = _Interrupted(f"{what} ({type(error).__name__})")
        if _is_about_certificate(error):
            refusal = FetchRefused(
                "the host has no valid certificate; if it uses a private certificate authority, set "
                "REQUESTS_CA_BUNDLE on the workers"
            )
    except ValueError:  # the requests library failed to parse a redirect's address, such as "https://[a"
        refusal = FetchRefused("the host redirects to an address that is not valid")
    if refusal is not None:
        raise refusal


def _is_about_certificate(error: BaseException | None) -> bool:
    """Return whether the host's certificate was refused; other errors of a TLS handshake may be temporary."""
    from urllib3.util.ssl_match_hostname import CertificateError

    while error is not None and not isinstance(error, ssl.SSLCertVerificationError | CertificateError):
        error = error.__context__
    return error is not None


def _require_good(status: int) -> None:
    if status == HTTPStatus.OK:
        return
    if status in {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS} or status >= 500:
        raise _Interrupted(f"responds with HTTP {status}")
    reason = (
        "; signed URLs expire, so export the dataset again" if status in {400, 401, 403, 404, 410} else ""
    )
    raise FetchRefused(f"the host responds with HTTP {status}{reason}")


def _receive_block(response: Response) -> bytes:
    """Return the bytes that have arrived, because a slow server could take forever to fill a block."""
    with _translate_errors("was cut off"):
        block: bytes = response.raw.read1(_BLOCK)
    return block


def _strip_query(record: logging.LogRecord) -> bool:
    """Remove query strings from the library's log records, such as the DEBUG record of each request."""
    if isinstance(record.args, tuple):
        record.args = tuple(without_query(part) if isinstance(part, str) else part for part in record.args)
    # An earlier filter may have inserted the arguments into the message.
    record.msg = _QUERY.sub("", str(record.msg))
    return True
