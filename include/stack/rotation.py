"""Replaces the secrets of a local stack; training runs end with a durable state and then resume.

The key that signs models is not replaced: docs/models.md says how to rotate it.

Airflow stops before any secret is replaced. Otherwise a running task could no longer store its state: its
token and passwords would be rejected.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from include.stack.errors import StackError
from include.stack.local import Stack

if TYPE_CHECKING:
    from include.stack.postgres import Postgres
    from include.stack.state import Credentials
    from include.stack.steps import Steps


def rotate(stack: Stack, steps: Steps) -> Stack:
    """Replace the secrets, start all services with the new secrets, and return the stack that uses them.

    If the replacement is interrupted, the stack does not start until the rotation has been repeated. The
    repetition uses the new secrets that were already chosen. Raises StackError.
    """
    with stack.state.lock():
        stack.state.check_disk()  # before anything is stopped that could not be started again
        stack.stop(steps)
        stack.replace_taken_ports(steps)
        new = stack.state.prepare_next_credentials()
        with steps.step("Replace the passwords and keys"):
            server = _start_postgres(stack, new)
            if stack.airflow.is_migrated() and server.has_database("airflow"):
                _encrypt_again(stack, server, new)
            server.set_superuser_password(new.postgres_password)
            server.stop()
            stack.state.adopt_next_credentials()
        rotated = Stack.at(stack.state.path, stack.postgres_settings, stack.buckets)
        # Starting the stack sets PostgreSQL's other passwords, and gives each server its new keys.
        rotated.start(steps)
    return rotated


def _start_postgres(stack: Stack, new: Credentials) -> Postgres:
    """Start PostgreSQL, which may already have the new password if an earlier rotation was interrupted."""
    try:
        stack.postgres.start()
    except StackError:
        stack.postgres.stop()
        server = replace(stack.postgres, password=new.postgres_password)
        server.start()
        return server
    return stack.postgres


def _encrypt_again(stack: Stack, server: Postgres, new: Credentials) -> None:
    """Re-encrypt Airflow's stored connections and Variables with the new Fernet key."""
    keys = f"{new.airflow_fernet_key},{stack.credentials.airflow_fernet_key}"
    database = server.build_url("airflow").replace("postgresql://", "postgresql+psycopg2://", 1)
    try:
        stack.airflow.run_command(
            "rotate-fernet-key", AIRFLOW__CORE__FERNET_KEY=keys, AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=database
        )
    except StackError as error:
        raise StackError(
            f"{error}\nFix the cause and run `make rotate` again. `make up` refuses to start the stack "
            "until then."
        ) from error
