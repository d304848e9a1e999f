"""Requests to the REST API for training jobs on the real API server, by users with different rights."""

from __future__ import annotations

from typing import Any

import requests

from include.stack.local import Stack
from include.stack.ports import open_session


def token(stack: Stack, role: str | None, name: str | None = None) -> str:
    """Return the token of a user with that role, or with no role for None; the user is `name` or a-{role}."""
    from airflow.api_fastapi.auth.tokens import JWTGenerator

    signer = JWTGenerator(
        secret_key=stack.credentials.airflow_jwt_secret, audience="apache-airflow", valid_for=3600
    )
    return str(signer.generate({"sub": name or f"a-{role}", "role": role, "teams": []}))


def log_in_over_rest(stack: Stack) -> str:
    """Log in with the administrator's password; return the token."""
    login = {"username": stack.username, "password": stack.password}
    answer = requests.post(f"{stack.url}/auth/token", json=login, timeout=60)
    return str(answer.json()["access_token"])


def ask(
    stack: Stack, method: str, path: str, bearer: str | None = None, body: Any = None, **query: Any
) -> requests.Response:
    """Send a request to a path of the API, with a JSON body unless it is a GET; do not follow redirects."""
    # Imported here, because this module imports Airflow, which then reads AIRFLOW_HOME.
    from include.api.app import PREFIX

    headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
    sent = None if method == "GET" else body or {}
    with open_session() as session:
        return session.request(
            method,
            f"{stack.url}{PREFIX}{path}",
            params=query,
            json=sent,
            headers=headers,
            timeout=60,
            allow_redirects=False,
        )


def get(stack: Stack, path: str, bearer: str | None = None, **query: Any) -> requests.Response:
    """Send a GET request to a path of the API."""
    return ask(stack, "GET", path, bearer, **query)
