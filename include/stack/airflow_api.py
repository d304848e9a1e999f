"""A client for the training API, and for the parts of Airflow's public REST API that the demo needs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import requests

from include.api import PREFIX
from include.stack.errors import StackError
from include.stack.ports import open_session

SECONDS = 30


class ApiRefusal(StackError):
    """The training API refused a request."""


class ApiUnavailable(StackError):
    """The API server or its database does not respond; the same request may succeed soon."""


@dataclass(frozen=True)
class AirflowApi:
    """Calls Airflow's REST API as one user, who logs in again when the token has expired."""

    url: str
    """Address of the API server, without a trailing slash."""
    username: str
    """The user who logs in before the first request."""
    password: str
    """The user's password."""

    def ensure_pool(self, name: str, slots: int, description: str) -> None:
        """Create the pool unless it exists; an existing pool keeps its number of slots."""
        body = {"name": name, "slots": slots, "description": description, "include_deferred": False}
        self._call("POST", "pools", body, accept=requests.codes.conflict)

    def wait_for_dag(self, dag_id: str, seconds: float = 120) -> None:
        """Wait until the Dag processor has loaded the Dag.

        Raises StackError with the import errors if the Dag cannot be loaded.
        """
        deadline = time.monotonic() + seconds
        while not self._call("GET", f"dags/{dag_id}", accept=requests.codes.not_found).ok:
            broken = self._call("GET", "importErrors").json()["import_errors"]
            if any(dag_id in error["filename"] for error in broken) or time.monotonic() > deadline:
                traces = "\n".join(f"{entry['filename']}:\n{entry['stack_trace']}" for entry in broken)
                raise StackError(
                    f"Airflow did not load the Dag {dag_id} from dags/{dag_id}.py. {traces}".strip()
                )
            time.sleep(0.5)

    def trigger(self, dag_id: str, conf: dict[str, Any]) -> str:
        """Start a run and return its id."""
        answer = self._call("POST", f"dags/{dag_id}/dagRuns", {"logical_date": None, "conf": conf})
        return str(answer.json()["dag_run_id"])

    def get_run_state(self, dag_id: str, run_id: str) -> str:
        """Return the state of the run: queued, running, success or failed."""
        return str(self._call("GET", f"dags/{dag_id}/dagRuns/{run_id}").json()["state"])

    def list_task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return the run's tasks, as Airflow describes them."""
        return list(
            self._call("GET", f"dags/{dag_id}/dagRuns/{run_id}/taskInstances").json()["task_instances"]
        )

    def read_log(self, dag_id: str, run_id: str, task_id: str, attempt: int) -> list[str]:
        """Return the log of one attempt of a task, line by line."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{attempt}"
        content = self._call("GET", path, accept=requests.codes.not_found).json().get("content", [])
        return [line for event in content for line in _format_event(event)]

    def call_training_api(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Call the training API. Raises ApiRefusal or ApiUnavailable with the detail of an error response."""
        answer = self._request(method, f"{self.url}{PREFIX}/{path}", body)
        try:
            content: dict[str, Any] = answer.json() if answer.content else {}
        except requests.JSONDecodeError:  # not from the training API: for example, the server is stopping
            raise ApiUnavailable(
                f"Airflow responded with HTTP {answer.status_code} to {method} {path}: {answer.text:.1000}"
            ) from None
        if not answer.ok:
            error = ApiUnavailable if _is_outage(answer) else ApiRefusal
            raise error(str(content.get("detail", answer.text)))
        return content

    @cached_property
    def _session(self) -> requests.Session:
        session = open_session()
        login = {"username": self.username, "password": self.password}
        token = session.post(f"{self.url}/auth/token", json=login, timeout=SECONDS)
        if not token.ok:
            error = ApiUnavailable if _is_outage(token) else StackError
            raise error(f"Airflow at {self.url} refuses the login of {self.username!r}: {token.text}")
        session.headers["Authorization"] = f"Bearer {token.json()['access_token']}"
        return session

    def _call(
        self, method: str, path: str, body: dict[str, Any] | None = None, accept: int | None = None
    ) -> requests.Response:
        answer = self._request(method, f"{self.url}/api/v2/{path}", body)
        if not answer.ok and answer.status_code != accept:
            error = ApiUnavailable if _is_outage(answer) else StackError
            raise error(f"Airflow responded with HTTP {answer.status_code} to {method} {path}: {answer.text}")
        return answer

    def _request(self, method: str, url: str, body: dict[str, Any] | None) -> requests.Response:
        try:
            answer = self._session.request(method, url, json=body, timeout=SECONDS)
            if answer.status_code != requests.codes.unauthorized:
                return answer
            vars(self).pop("_session").close()
            return self._session.request(method, url, json=body, timeout=SECONDS)
        except requests.RequestException as error:
            raise ApiUnavailable(
                f"Airflow at {self.url} is not responding. See `make status` and `make logs`."
            ) from error


def _is_outage(answer: requests.Response) -> bool:
    return answer.status_code in range(500, 600)


def _format_event(event: Any) -> list[str]:
    """Return a structured log event as lines of text, with its exceptions.

    The markers that fold the log in the UI are omitted.
    """
    if not isinstance(event, dict):
        return [str(event)]
    raised = [f"{error['exc_type']}: {error['exc_value']}" for error in event.get("error_detail") or []]
    text = str(event["event"])
    return [] if text.startswith(("::group::", "::endgroup::")) else [text, *raised]
