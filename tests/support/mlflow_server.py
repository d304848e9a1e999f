"""A real MLflow tracking server with a login, and queries for a job's data, which also work after a kill."""

from __future__ import annotations

import secrets
import signal
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import requests

from include.stack import ports, processes
from include.stack.ports import LOOPBACK, open_session
from include.stack.processes import Service

USERNAME, PASSWORD = "admin", secrets.token_urlsafe(24)
"""The login of the first user."""


@dataclass(frozen=True)
class MlflowServer:
    """A server that stores its data in the folder."""

    folder: Path

    @cached_property
    def port(self) -> int:
        return ports.choose()

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    @cached_property
    def _service(self) -> Service:
        login = self.folder / "login.ini"
        login.write_text(
            "[mlflow]\n"
            "default_permission = READ\n"
            f"database_uri = sqlite:///{self.folder}/login.db\n"
            f"admin_username = {USERNAME}\n"
            f"admin_password = {PASSWORD}\n"
            "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
            "auth_cache_ttl_seconds = 3600\n"  # without this cache each request takes a quarter of a second
        )
        options = {
            "host": LOOPBACK,
            "port": str(self.port),
            "workers": "1",
            "app-name": "basic-auth",
            "backend-store-uri": f"sqlite:///{self.folder}/mlflow.db",
            "default-artifact-root": str(self.folder / "artifacts"),
        }
        arguments = [f"--{name}={value}" for name, value in options.items()]
        return Service(
            name="mlflow",
            command=(sys.executable, "-m", "mlflow", "server", *arguments),
            environment=processes.build_base_environment()
            | {
                "MLFLOW_AUTH_CONFIG_PATH": str(login),
                "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(),
                "MLFLOW_DISABLE_TELEMETRY": "true",
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # no extra processes for other features
            },
            directory=self.folder,
            state=self.folder,
            stop_signal=signal.SIGKILL,
        )

    def start(self) -> None:
        processes.start(self._service)
        processes.wait_until_ready(self._service, self._healthy, 120)

    def kill(self) -> None:
        processes.stop(self._service)

    def runs(self, experiment: str, job_id: str) -> list[dict[str, Any]]:
        """Return MLflow's runs of the job: status, start in milliseconds, params, metrics and tags."""
        with self._session() as session:
            found = session.get(
                f"{self._api}/experiments/get-by-name", params={"experiment_name": experiment}
            )
            if found.status_code == requests.codes.not_found:
                return []
            body = {"experiment_ids": [found.json()["experiment"]["experiment_id"]], "max_results": 1000}
            answer = session.post(f"{self._api}/runs/search", json=body)
            answer.raise_for_status()
        runs = [_flat(run) for run in answer.json().get("runs", [])]
        return [run for run in runs if run["tags"].get("training.job_id") == job_id]

    def history(self, run: dict[str, Any], key: str) -> list[tuple[int, float]]:
        """Return the step and value of each point of the metric, in order."""
        with self._session() as session:
            answer = session.get(
                f"{self._api}/metrics/get-history", params={"run_id": run["id"], "metric_key": key}
            )
            answer.raise_for_status()
        return sorted((each["step"], each["value"]) for each in answer.json().get("metrics", []))

    def delete(self, run: dict[str, Any]) -> None:
        """Delete the run as MLflow's UI does."""
        with self._session() as session:
            session.post(f"{self._api}/runs/delete", json={"run_id": run["id"]}).raise_for_status()

    @property
    def _api(self) -> str:
        return f"{self.url}/api/2.0/mlflow"

    def _session(self) -> requests.Session:
        session = open_session()
        session.auth = (USERNAME, PASSWORD)
        return session

    def _healthy(self) -> bool:
        try:
            return requests.get(f"{self.url}/health", timeout=5).ok
        except requests.RequestException:
            return False


def _flat(run: dict[str, Any]) -> dict[str, Any]:
    data = run["data"]
    return {
        "id": run["info"]["run_id"],
        "name": run["info"]["run_name"],
        "status": run["info"]["status"],
        "start": run["info"]["start_time"],
        "metrics": {each["key"]: each["value"] for each in data.get("metrics", [])},
        "params": {each["key"]: each["value"] for each in data.get("params", [])},
        "tags": {each["key"]: each["value"] for each in data.get("tags", [])},
    }
