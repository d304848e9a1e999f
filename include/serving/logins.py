"""Limits on failed logins, to prevent password guessing: Airflow itself limits only FAB's login form.

Failed attempts are counted by account and by address, in the memory of each process of the API server. Once
an account has logged in from an address, attempts on that account from that address have a separate count.
"""

from __future__ import annotations

from collections.abc import Hashable
from hashlib import blake2b
from http import HTTPStatus
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote_plus

from anyio import CapacityLimiter
from cachetools import LRUCache, TTLCache
from pydantic_core import from_json
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request

from include.serving.problem import build_problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECONDS = 60
"""How long failed attempts are remembered, counted from the last attempt."""

MOST_FROM_ADDRESS = 10
MOST_FOR_ACCOUNT = 100
"""Higher than the limit for an address, so that an attacker with a single address cannot lock an account."""

_MOST_COUNTED = 20_000
"""Maximum number of accounts and addresses that are remembered (a few MB); the oldest are forgotten first."""

_MOST_KNOWN = 2_000
"""Maximum number of remembered pairs: an account, and an address from which it has logged in."""

_AT_ONCE = 4
"""Maximum number of concurrent logins: verifying a password is CPU-intensive on purpose."""

_PATHS = ("/auth/token", "/auth/login")
"""Login paths of both auth managers: the first returns a token, and is also used by SimpleAuthManager's
form; the second is FAB's form."""

_SESSION_COOKIE = "_token="

Key = tuple[Hashable, ...]


class LoginThrottle:
    """Middleware for the whole API server that answers 429 after too many failed logins.

    Known addresses are counted separately. Therefore other people cannot lock out an account's owner, even if
    they try other accounts from the owner's address, which may be a proxy's.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._refused: TTLCache[Key, int] = TTLCache(_MOST_COUNTED, SECONDS)
        self._known: LRUCache[Key, bool] = LRUCache(_MOST_KNOWN)
        self._capacity = CapacityLimiter(_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle login requests, and pass everything else to the application."""
        if not _is_login(scope):
            await self._app(scope, receive, send)
            return
        try:
            body = await Request(scope, receive).body()
        except ClientDisconnect:  # or RequestLimits refused the body as too large or too slow
            return
        account, address = _identify_account(scope, body), _identify_address(scope)
        async with self._capacity:
            if self._is_blocked(account, address):
                await _refuse(scope, receive, send)
                return
            outcome = _Outcome(send)
            await self._app(scope, _replay(body, receive), outcome.send)
        if outcome.succeeded is not None:
            self._record(account, address, succeeded=outcome.succeeded)

    def _find_limits(self, account: bytes, address: str) -> dict[Key, int]:
        """Return the counters to which a failed attempt is added, with their limits."""
        if (account, address) in self._known:
            return {(account, address): MOST_FROM_ADDRESS}
        return {(address,): MOST_FROM_ADDRESS, (account,): MOST_FOR_ACCOUNT}

    def _is_blocked(self, account: bytes, address: str) -> bool:
        limits = self._find_limits(account, address)
        return any(self._refused.get(key, 0) >= most for key, most in limits.items())

    def _record(self, account: bytes, address: str, *, succeeded: bool) -> None:
        if succeeded:
            if account != _UNNAMED:  # these attempts may be for any account
                self._known[account, address] = True
            return
        for key in self._find_limits(account, address):
            self._refused[key] = self._refused.get(key, 0) + 1


class _Outcome:
    """Reads the outcome of an attempt from its response."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.succeeded: bool | None = None
        """Whether the password was right; None if no password was checked."""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            status: int = message["status"]
            cookies = Headers(scope=message).getlist("set-cookie")
            logged_in = any(cookie.startswith(_SESSION_COOKIE) for cookie in cookies)
            if status == HTTPStatus.UNAUTHORIZED or (_is_redirect(status) and not logged_in):
                self.succeeded = False  # after a failed login, FAB's form redirects to itself
            elif status == HTTPStatus.CREATED or logged_in:
                self.succeeded = True
        await self._send(message)


def _is_redirect(status: int) -> bool:
    return HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST


def _is_login(scope: Scope) -> bool:
    if scope["type"] != "http" or scope["method"] != "POST":
        return False
    path: str = scope["path"].removeprefix(scope.get("root_path", ""))
    return path.startswith(_PATHS)


def _identify_account(scope: Scope, body: bytes) -> bytes:
    """Return a fixed-length digest of the user's name.

    All attempts whose name is missing or ambiguous are counted together, as for the empty name.
    """
    kind = Headers(scope=scope).get("content-type", "").partition(";")[0].strip().lower()
    try:
        if kind == "application/json":
            sent = from_json(body)
            name = sent.get("username", "") if isinstance(sent, dict) else ""
        else:
            name = _read_form(body.decode()) if kind == "application/x-www-form-urlencoded" else ""
    except ValueError:
        name = ""
    return _digest(str(name).strip().casefold())


def _digest(name: str) -> bytes:
    return blake2b(name.encode(errors="replace"), digest_size=16).digest()


_UNNAMED = _digest("")


def _read_form(body: str) -> str:
    """Return the user's name; empty if the field may occur twice.

    Of two fields, SimpleAuthManager reads the last and FAB the first, and their parsers separate fields
    differently. A client could therefore log in to one account and be counted for another.
    """
    if unquote_plus(body).count("username") != 1:
        return ""
    return parse_qs(body, max_num_fields=20).get("username", [""])[0]


def _identify_address(scope: Scope) -> str:
    """Return the client's address, or for IPv6 its /64 network, which usually belongs to one customer."""
    host = (scope.get("client") or ("", 0))[0]
    try:
        address = ip_address(host)
    except ValueError:  # a Unix socket
        return ""
    return str(ip_network((address, 64), strict=False)) if address.version == 6 else str(address)


def _replay(body: bytes, receive: Receive) -> Receive:
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    refusal = build_problem(
        HTTPStatus.TOO_MANY_REQUESTS,
        f"Too many failed logins: wait {SECONDS} seconds, then try again.",
        {"Retry-After": str(SECONDS)},
    )
    await refusal(scope, receive, send)
