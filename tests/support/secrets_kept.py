"""Searches Airflow's whole database and all logs for secrets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from include.stack.local import Stack

BACKEND_TOKEN = "token-of-the-backend-9d4c1f7a"
"""The token that a test gives to the connection `training_backend`."""

_LINK = ("X-Amz-Signature", "X-Amz-Credential", "X-Amz-Security-Token")
"""Parameters of signed links; anybody with such a link can read the object."""


def secrets_of(stack: Stack) -> dict[str, str]:
    """Return every secret of the stack, and a part of every signed link, by name."""
    secrets = {name: str(value) for name, value in asdict(stack.credentials).items() if name != "identity"}
    secrets["key that signs models"] = stack.model_keys.private.read_text().splitlines()[1]
    return secrets | {"token of the backend": BACKEND_TOKEN} | {name: name for name in _LINK}


def places_of(stack: Stack, texts: dict[str, str]) -> list[str]:
    """Return each place that contains one of these texts, with the name of the text."""
    return [*_in_database(stack, texts), *_in_logs(stack, texts)]


def _in_database(stack: Stack, texts: dict[str, str]) -> Iterator[str]:
    """Search every row of every table, such as XComs, rendered templates, conf, notes and the audit log."""
    with psycopg.connect(stack.postgres.build_url("airflow")) as connection:
        tables = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename"
        ).fetchall()
        assert ("xcom",) in tables
        assert ("rendered_task_instance_fields",) in tables
        for (table,) in tables:
            rows = sql.SQL("SELECT count(*) FROM {} AS t WHERE position(%s IN t::text) > 0").format(
                sql.Identifier(table)
            )
            for name, text in texts.items():
                [(found,)] = connection.execute(rows, [text]).fetchall()
                if found:
                    yield f"{name}: {found} rows of {table}"


def _in_logs(stack: Stack, texts: dict[str, str]) -> Iterator[str]:
    folders = (stack.airflow.home / "logs", stack.state.path / "logs")
    logs = [path for folder in folders for path in folder.rglob("*.log")]
    assert len(logs) > len(folders)
    for path in logs:
        log = path.read_text(encoding="utf-8", errors="replace")
        for name, text in texts.items():
            if text in log or quote(text, safe="") in log:
                yield f"{name}: {_name(path, stack)}"


def _name(path: Path, stack: Stack) -> str:
    return str(path.relative_to(stack.state.path))
