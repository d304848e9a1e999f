"""Limits for guessing passwords from many addresses, tested at SimpleAuthManager's login without a server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from cachetools import TTLCache
from fastapi import FastAPI
from starlette.types import Message, Scope

from include.serving import logins
from include.serving.logins import MOST_FOR_ACCOUNT, MOST_FROM_ADDRESS, LoginThrottle

Attempt = Callable[..., int]

FORM = "application/x-www-form-urlencoded"

PASSWORDS = {"ada": "right", "bob": "good"}


@pytest.fixture
def throttle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> LoginThrottle:
    """Return the throttle of a login with two users."""
    from airflow.api_fastapi.app import create_auth_manager, purge_cached_app

    passwords = tmp_path / "passwords.json"
    passwords.write_text(json.dumps(PASSWORDS))
    monkeypatch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE", str(passwords))
    monkeypatch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS", "ada:admin,bob:viewer")
    monkeypatch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "of this test, and long enough for an HMAC " * 2)
    purge_cached_app()
    app = FastAPI()
    login = create_auth_manager().get_fastapi_app()
    assert login
    app.mount("/auth", login)
    return LoginThrottle(app)


@pytest.fixture
def attempt(throttle: LoginThrottle) -> Attempt:
    """Log in once from an address, and return the status."""

    def attempt(username: str, password: str, address: str = "192.0.2.1", *, as_form: bool = False) -> int:
        async def post() -> httpx.Response:
            transport = httpx.ASGITransport(app=throttle, client=(address, 1))
            async with httpx.AsyncClient(transport=transport, base_url="http://airflow") as client:
                sent = {"username": username, "password": password}
                if as_form:
                    return await client.post("/auth/token", data=sent)
                return await client.post("/auth/token", json=sent)

        return asyncio.run(post()).status_code

    return attempt


def test_an_address_with_too_many_guesses_is_refused_even_with_a_right_password(attempt: Attempt) -> None:
    guesses = [attempt(f"user-{number}", "wrong") for number in range(MOST_FROM_ADDRESS)]
    assert set(guesses) == {401}
    assert attempt("ada", "right") == 429
    assert attempt("ada", "right", as_form=True) == 429
    assert attempt("ada", "right", "192.0.2.2") == 201


def test_an_account_that_is_guessed_from_everywhere_is_refused_only_to_new_addresses(
    attempt: Attempt,
) -> None:
    assert attempt("ada", "right", "198.51.100.1") == 201
    guesses = [attempt("Ada " if number % 2 else "ada", "wrong", f"10.0.0.{number}") for number in range(100)]
    assert len(guesses) == MOST_FOR_ACCOUNT
    assert set(guesses) == {401}
    assert attempt("ada", "wrong", "10.0.1.1") == 429
    assert attempt("bob", "good", "10.0.1.1") == 201
    assert attempt("ada", "right", "198.51.100.1") == 201


def test_a_known_address_may_not_guess_endlessly_either(attempt: Attempt) -> None:
    assert attempt("ada", "right") == 201
    guesses = [attempt("ada", "wrong") for _ in range(MOST_FROM_ADDRESS + 1)]
    assert guesses == [401] * MOST_FROM_ADDRESS + [429]
    assert attempt("bob", "good") == 201


@pytest.mark.parametrize("separator", ["&", ";"])
def test_a_form_with_two_names_is_counted_for_neither(throttle: LoginThrottle, separator: str) -> None:
    """SimpleAuthManager logs in to the last account that a form names."""

    def guess(number: int, password: str) -> int:
        async def post() -> httpx.Response:
            transport = httpx.ASGITransport(app=throttle, client=(f"10.0.0.{number}", 1))
            async with httpx.AsyncClient(transport=transport, base_url="http://airflow") as client:
                sent = f"username=decoy-{number}{separator}username=ada&password={password}"
                return await client.post("/auth/token", content=sent, headers={"Content-Type": FORM})

        return asyncio.run(post()).status_code

    assert {guess(number, "wrong") for number in range(MOST_FOR_ACCOUNT)} == {401}
    assert guess(MOST_FOR_ACCOUNT + 1, "right") == 429


def test_a_login_without_a_clear_name_makes_no_address_known(throttle: LoginThrottle) -> None:
    """Otherwise, a user who logs in so from many addresses could guess the password of another account."""
    unnamed = logins._identify_account({"type": "http", "headers": []}, b"")
    throttle._record(unnamed, "192.0.2.1", succeeded=True)
    for number in range(MOST_FOR_ACCOUNT):
        throttle._record(unnamed, f"10.0.0.{number}", succeeded=False)
    assert throttle._is_blocked(unnamed, "192.0.2.1")


def test_a_name_beside_the_fields_of_a_multipart_form_is_not_counted() -> None:
    """FAB also reads forms of this kind."""
    kind = (b"content-type", b"multipart/form-data; boundary=x")
    scope: Scope = {"type": "http", "method": "POST", "path": "/auth/login", "headers": [kind]}
    field = b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
    body = b"&username=decoy&" + field % (b"username", b"ada") + field % (b"password", b"wrong") + b"--x--"
    assert logins._identify_account(scope, body) == logins._identify_account(scope, b"")


def test_a_network_of_ipv6_addresses_counts_as_one_client(attempt: Attempt) -> None:
    for number in range(MOST_FROM_ADDRESS):
        attempt(f"user-{number}", "wrong", f"2001:db8:0:1::{number:x}")
    assert attempt("bob", "good", "2001:db8:0:1:ffff::1") == 429
    assert attempt("bob", "good", "2001:db8:0:2::1") == 201


def test_a_client_that_guesses_passwords_may_try_again_later(
    throttle: LoginThrottle, attempt: Attempt
) -> None:
    now, refused = [0.0], throttle._refused
    throttle._refused = TTLCache(refused.maxsize, refused.ttl, timer=lambda: now[0])
    for _ in range(MOST_FROM_ADDRESS):
        attempt("nobody", "wrong")
    now[0] += refused.ttl - 1
    assert attempt("ada", "right") == 429
    now[0] += 1
    assert attempt("ada", "right") == 201


def test_a_login_whose_client_disconnects_is_not_passed_on() -> None:
    messages: list[Message] = [
        {"type": "http.request", "body": b'{"username":', "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        return messages.pop(0)

    async def fail(*_: object) -> None:
        pytest.fail("nothing is passed on or sent")

    scope: Scope = {"type": "http", "method": "POST", "path": "/auth/token", "headers": []}
    asyncio.run(LoginThrottle(fail)(scope, receive, fail))
    assert messages == []


def test_the_memory_for_names_and_addresses_is_bounded(
    throttle: LoginThrottle, attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert throttle._refused.maxsize == logins._MOST_COUNTED
    for number in range(logins._MOST_COUNTED + 100):
        throttle._record(b"%d" % number, f"10.{number}", succeeded=False)
        throttle._record(b"%d" % number, f"10.{number}", succeeded=True)
    assert len(throttle._refused) == logins._MOST_COUNTED
    assert len(throttle._known) == logins._MOST_KNOWN
    assert attempt("x" * 60_000, "wrong") == 401
    assert max(len(str(key)) for key in throttle._refused) < 100
