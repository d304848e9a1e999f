"""Sends requests as users of each role to an API server with FAB, config/roles.json and config/oidc.py.

Reads requests from standard input as JSON: lists of user, method, path and body. The user is null if nobody
is logged in. First prints which modules the plugins import, while nothing else has been imported. Then prints
the status, the media type and, for a problem, the detail of each answer.
"""

from __future__ import annotations

import json
import os
import sys
from argparse import Namespace
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import requests
from fastapi.testclient import TestClient

from tests.support.openid_provider import CLIENT, providing

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from tests.support.openid_provider import Provider

CONFIG = Path(__file__).parents[2] / "config"

USERS = {
    "newcomer": (),
    "viewer": ("Viewer",),
    "trainer": ("Viewer", "Trainer"),
    "approver": ("Viewer", "Approver"),
    "auditor": ("Viewer", "Auditor"),
    "administrator": ("Admin",),
}
"""The roles of each user, as docs/access.md gives them."""

PEOPLE = {f"{name} by OIDC": f"training-{name}s" for name in USERS}
"""The users who log in by OpenID Connect, with their groups according to the identity provider."""


def load_plugins() -> dict[str, Any]:
    """Load the plugins as a task does, then as the API server does; return what has been imported."""
    from airflow import plugins_manager

    plugins_manager.ensure_plugins_loaded()
    names = [plugin.name for plugin in plugins_manager._get_plugins()[0]]
    by_a_task = "include.api.app" in sys.modules
    plugins_manager.get_fastapi_plugins()
    by_the_server = sorted({"include.api.app", "torch", "ultralytics", "cv2"} & set(sys.modules))
    return {"plugins": names, "application in a task": by_a_task, "in the server": by_the_server}


def make_users() -> None:
    """Create FAB's tables, the roles and the users in Airflow's database, as the documented commands do."""
    from airflow.providers.fab.auth_manager.cli_commands import role_command
    from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder
    from airflow.providers.fab.auth_manager.models.db import FABDBManager
    from airflow.utils.session import create_session

    with create_session() as session:
        FABDBManager(session).upgradedb()  # type: ignore[no-untyped-call]
    with get_application_builder() as builder:
        builder.sm.sync_roles()
        builder.sm.create_dag_specific_permissions()
        # The command would build another application for each role, which takes seconds.
        with patch.object(role_command, "get_application_builder", lambda: nullcontext(builder)):
            role_command.roles_import(Namespace(file=str(CONFIG / "roles.json"), verbose=False))
        for name, roles in USERS.items():
            if builder.sm.find_user(username=name) is not None:
                continue
            found = [builder.sm.find_role(role) for role in roles]
            builder.sm.add_user(name, name, name, f"{name}@example.org", found, password=name)


def log_in() -> dict[str | None, dict[str, str]]:
    """Return the request headers of each user; Airflow's server must have been imported before."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.providers.fab.auth_manager.models import User
    from airflow.utils.session import create_session

    manager = get_auth_manager()
    with create_session() as session:
        users = {user.username: manager.generate_jwt(user) for user in session.query(User)}
    return {None: {}} | {name: {"Authorization": f"Bearer {users[name]}"} for name in USERS}


def log_in_by_oidc(app: ASGIApp, provider: Provider, name: str) -> dict[str, str]:
    """Log in by following the redirects as a browser would; return the user's request headers."""
    provider.person = {
        "preferred_username": name,
        "given_name": "Ada",
        "family_name": "Lovelace",
        "email": f"{name.replace(' ', '.')}@example.org",
        "groups": ["unrelated", PEOPLE[name]],
    }
    with TestClient(app) as browser:
        away = browser.get("/auth/login/keycloak", follow_redirects=False)
        back = requests.get(away.headers["location"], allow_redirects=False, timeout=60)
        browser.get(back.headers["location"])
        return {"Authorization": f"Bearer {browser.cookies['_token']}"}


def ask(client: TestClient, method: str, path: str, headers: dict[str, str], body: Any) -> dict[str, Any]:
    """Send the request; return the status, media type and problem detail of the answer."""
    answer = client.request(method, path, headers=headers, json=body, follow_redirects=False)
    media_type = answer.headers.get("content-type", "").partition(";")[0]
    problem = answer.json() if media_type == "application/problem+json" else {}
    return {"status": answer.status_code, "type": media_type, "detail": problem.get("detail")}


def main() -> None:
    all_requests = json.load(sys.stdin)
    with redirect_stdout(sys.stderr), providing() as provider:
        os.environ.update(CLIENT, OIDC_ISSUER=provider.issuer)
        loaded = load_plugins()
        make_users()
        from airflow.api_fastapi.main import app

        users, client = log_in(), TestClient(app)
        users |= {name: log_in_by_oidc(app, provider, name) for name in PEOPLE}
        answers = [ask(client, method, path, users[who], body) for who, method, path, body in all_requests]
    print(json.dumps({"loaded": loaded, "answers": answers}))


if __name__ == "__main__":
    main()
