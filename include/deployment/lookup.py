"""Looks up Airflow's connections, and distinguishes an outage from a connection that does not exist."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk.exceptions import AirflowNotFoundException, ErrorType

from include.errors import TransientError

if TYPE_CHECKING:
    from airflow.sdk import Connection
    from airflow.sdk.bases.secrets_backend import BaseSecretsBackend


class LookupFailed(TransientError):
    """Airflow could not look up a connection, so it is unknown whether the connection exists."""


def look_up(connection_id: str) -> Connection:
    """Return the connection from the first secrets backend that has it, with its secrets masked in logs.

    Raises AirflowNotFoundException if no backend has it, and LookupFailed if a backend does not respond.
    Airflow itself reports both cases as not found. In an outage, code that treats the connection as optional
    would continue without it.
    """
    from airflow.sdk import BaseHook

    try:
        return BaseHook.get_connection(connection_id)
    except AirflowNotFoundException:
        _require_answers(connection_id)
        raise


def _require_answers(connection_id: str) -> None:
    """Ask every secrets backend again. Raises LookupFailed unless all of them lack the connection."""
    from airflow.sdk.execution_time.supervisor import ensure_secrets_backend_loaded
    from airflow.secrets.environment_variables import EnvironmentVariablesBackend

    for backend in ensure_secrets_backend_loaded():
        if isinstance(backend, EnvironmentVariablesBackend):
            continue
        try:
            exists = _has(backend, connection_id)
        except Exception as error:
            if _is_refusal(error):  # a restrictive policy allows access only to names that exist
                continue
            raise LookupFailed(
                f"Connection {connection_id} could not be looked up ({type(backend).__name__}): {error}"
            ) from error
        if exists:
            raise LookupFailed(
                f"Connection {connection_id} exists, but could not be looked up at first; try again"
            )


def _is_refusal(error: Exception) -> bool:
    """Return whether access was denied: AWS, Vault and Google deny it for names that no policy lists."""
    code = str(getattr(error, "response", None) or {})
    return type(error).__name__ in {"Forbidden", "PermissionDenied"} or "AccessDenied" in code


def _has(backend: BaseSecretsBackend, connection_id: str) -> bool:
    """Return whether the backend has the connection. Raises any error that prevents an answer."""
    from airflow.sdk.execution_time.secrets import ExecutionAPISecretsBackend

    if isinstance(backend, ExecutionAPISecretsBackend):
        return _api_server_has(connection_id)
    return backend.get_connection(connection_id) is not None


def _api_server_has(connection_id: str) -> bool:
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.comms import ErrorResponse, GetConnection, GetTICount

    supervisor = task_runner.SUPERVISOR_COMMS
    # While its database is unavailable, the API server reports every connection as not found. The first
    # request below fails in that case.
    supervisor.send(GetTICount(dag_id="any"))
    answer = supervisor.send(GetConnection(conn_id=connection_id))
    if not isinstance(answer, ErrorResponse):
        return True
    if answer.error == ErrorType.CONNECTION_NOT_FOUND:
        return False
    raise RuntimeError(f"the API server responded with {answer.error}")
