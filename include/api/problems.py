"""Errors as problem documents (RFC 9457): one sentence that says what went wrong and what to do."""

from __future__ import annotations

import logging
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import psycopg
from airflow.sdk.exceptions import AirflowNotFoundException
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from include.api.access import (
    AIRFLOW_DATABASE_ERRORS,
    explain_airflow_outage,
    find_authentication_error,
)
from include.deployment.lookup import LookupFailed
from include.deployment.retrying import list_database_errors
from include.deployment.settings import TRAINING_DB, SettingRefused
from include.errors import Conflict, Invalid, NotFound
from include.refusals import format_path
from include.s3.errors import StoreError
from include.serving.problem import MEDIA_TYPE, Problem, build_problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import FastAPI, Request
    from fastapi.responses import JSONResponse
    from starlette.types import ExceptionHandler

log = logging.getLogger(__name__)

_BEFORE_GUARDS = {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.BAD_REQUEST}
"""Errors that occur before any guard has run; a request without a login is answered with 401 instead."""
_HELP = {
    HTTPStatus.UNAUTHORIZED: "Log in to Airflow, or send a token from POST /auth/token as a Bearer token.",
    HTTPStatus.FORBIDDEN: "Ask an Airflow administrator for permission on the runs of this Dag.",
}
"""Remedies for errors that Airflow or the framework raises."""
_UNKNOWN_SIGNATURE = "Invalid JWT token"
"""Detail of Airflow's 403 response to a token that was not signed with the current secret."""

_REFUSALS = {
    NotFound: HTTPStatus.NOT_FOUND,
    Conflict: HTTPStatus.CONFLICT,
    Invalid: HTTPStatus.UNPROCESSABLE_ENTITY,
}
"""Statuses of the errors whose message is returned to the caller."""


class ProblemError(Exception):
    """An error that becomes the response to a request: a status and one sentence."""

    def __init__(self, status: HTTPStatus, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.headers = status, headers


def install_problem_handlers(app: FastAPI) -> None:
    """Answer every error of the application with a problem document."""
    app.add_exception_handler(HTTPException, _answer_http_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid_request)
    app.add_exception_handler(ProblemError, _answer_problem)
    app.add_exception_handler(psycopg.DataError, _answer_data_error)
    for refusal, status in _REFUSALS.items():
        app.add_exception_handler(refusal, partial(_answer_refusal, status))
    app.add_exception_handler(AirflowNotFoundException, _answer_missing_connection)
    app.add_exception_handler(LookupFailed, _answer_failed_lookup)
    app.add_exception_handler(SettingRefused, _answer_invalid_setting)
    app.add_exception_handler(StoreError, _answer_storage_error)
    for error in list_database_errors():
        app.add_exception_handler(error, _answer_database_error)
    for error in AIRFLOW_DATABASE_ERRORS:
        app.add_exception_handler(error, _answer_airflow_outage)
    for error in (
        psycopg.errors.UndefinedTable,
        psycopg.errors.UndefinedColumn,
        psycopg.errors.InsufficientPrivilege,
    ):
        app.add_exception_handler(error, _answer_outdated_schema)
    app.add_exception_handler(Exception, _answer_unexpected)


def describe_errors(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI description of the errors that a route may return."""
    return {int(status): {"model": Problem, "description": status.phrase} for status in statuses}


def document_problems(document: dict[str, Any]) -> dict[str, Any]:
    """Set the media type of problems in the OpenAPI document, where FastAPI assumes application/json."""
    for operations in document["paths"].values():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                if status >= "400":
                    response["content"] = {MEDIA_TYPE: next(iter(response["content"].values()))}
    return document


async def _answer_http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - the handler is registered for this class
    if error.status_code in _BEFORE_GUARDS:
        error = await find_authentication_error(request) or error
    if error.status_code == HTTPStatus.NOT_FOUND and _is_described(request.app):
        error = HTTPException(error.status_code, f"{error.detail}. The routes are listed in openapi.json")
    if error.status_code == HTTPStatus.BAD_REQUEST:  # the body is not text; invalid JSON already gets 422
        error = HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, error.detail)
    return build_http_problem(error)


def _is_described(app: FastAPI) -> bool:
    """Return whether the application serves its OpenAPI document; the console does not."""
    return any(getattr(route, "path", None) == "/openapi.json" for route in app.routes)


def build_http_problem(error: HTTPException) -> JSONResponse:
    """Return the response to an error of the framework or of Airflow, with a remedy if one is known."""
    status = HTTPStatus(error.status_code)
    headers = dict(error.headers or {})
    if status == HTTPStatus.UNAUTHORIZED:
        headers.setdefault("WWW-Authenticate", "Bearer")
    remedy = _HELP.get(HTTPStatus.UNAUTHORIZED if error.detail == _UNKNOWN_SIGNATURE else status, "")
    return build_problem(status, f"{error.detail}. {remedy}".strip(), headers)


def _answer_problem(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ProblemError)  # noqa: S101 - the handler is registered for this class
    return build_problem(error.status, _end_sentence(error), error.headers)


def _answer_refusal(status: HTTPStatus, _: Request, error: Exception) -> JSONResponse:
    return build_problem(status, _end_sentence(error))


def _end_sentence(error: Exception) -> str:
    """Return the error's sentence with exactly one full stop: some sentences already end with one."""
    return f"{str(error).removesuffix('.')}."


def _answer_airflow_outage(_: Request, error: Exception) -> JSONResponse:
    return build_http_problem(explain_airflow_outage(error))


async def _answer_invalid_request(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - the handler is registered for this class
    if refusal := await find_authentication_error(request):
        return build_http_problem(refusal)
    first = error.errors()[0]
    field = format_path(first["loc"][1:])
    if first["type"] == "extra_forbidden":
        return build_problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"Unknown parameter {field}.")
    message = f"{first['msg'][0].lower()}{first['msg'][1:]}"
    return build_problem(
        HTTPStatus.UNPROCESSABLE_ENTITY, f"{field}={first['input']!r:.80} is refused: {message}."
    )


def _answer_data_error(_: Request, error: Exception) -> JSONResponse:
    """Return the response for a value that PostgreSQL cannot store or compare, such as text with a NUL."""
    assert isinstance(error, psycopg.DataError)  # noqa: S101 - the handler is registered for this class
    reason = error.diag.message_primary or error
    return build_problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"A value is refused: {reason}.")


def _answer_unavailable(detail: str, logged: str = "%s", *, may_retry: bool = True) -> ExceptionHandler:
    """Return a handler that logs the error, but omits it from the response, because it may name endpoints."""
    headers = {"Retry-After": "10"} if may_retry else None

    def answer(_: Request, error: Exception) -> JSONResponse:
        log.warning(logged, error)
        return build_problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers)

    return answer


_answer_missing_connection = _answer_unavailable(
    f"Airflow has no connection {TRAINING_DB}: an administrator has to add it.", may_retry=False
)
_answer_failed_lookup = _answer_unavailable(
    "Airflow cannot look up its connections at the moment: try again later; the API server's log says why."
)
_answer_invalid_setting = _answer_unavailable(
    "A setting of the API server is invalid: its log says which one an administrator has to correct.",
    may_retry=False,
)
_answer_database_error = _answer_unavailable(
    "The training database does not respond: try again later.",
    "The training database does not respond: %s",
)
_answer_storage_error = _answer_unavailable(
    "S3 does not respond, or refuses the request: try again later; the API server's log says why.",
    "A request to S3 failed: %s",
)
_answer_outdated_schema = _answer_unavailable(
    "The training database lacks tables, columns or rights that this code needs: run the Dag migrate_schema.",
    may_retry=False,
)


def _answer_unexpected(request: Request, error: Exception) -> JSONResponse:
    """Return the response to an unexpected error; the framework logs the traceback afterwards."""
    return build_problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "Internal error; see the API server's log.",
    )
