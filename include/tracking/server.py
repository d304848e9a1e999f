"""A client for the few calls of MLflow's REST API that a job needs.

MLflow's own client is not used: it retries a call for minutes before it gives up, and sends telemetry. It
would also install a dozen packages on every worker, and these restrict the versions of Airflow's packages.
The calls used here have been the same in every version of MLflow since 1.0.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote, urlsplit

import requests
from pydantic import BaseModel, ValidationError

from include.tracking.answers import Experiment, ExperimentAnswer, HistoryAnswer, RunAnswer, RunsAnswer
from include.tracking.errors import TrackingRefused, TrackingSettingsError, TrackingUnavailable

if TYPE_CHECKING:
    from include.tracking.answers import Metric, Run, RunStatus

DEFAULT_EXPERIMENT = "train_yolo"

TIMEOUT_SECONDS = (3.05, 10.0)
"""Time limits: to connect, and between two bytes of a response."""

LONGEST_PARAM = 500
"""Maximum length of a parameter that every version of MLflow accepts; 2.8 and later accept 6000."""

LONGEST_TAG = 5000

_HISTORY_PAGE = 25_000
_MOST_METRICS, _MOST_OTHERS = 800, 100
"""Limits for one request. A server accepts 1000 items, at most 100 of them parameters and 100 tags."""


class _Nothing(BaseModel):
    pass


Answer = TypeVar("Answer", bound=BaseModel)


@dataclass(frozen=True)
class TrackingServer:
    """One server and the experiment that contains the runs. Not thread-safe.

    Every call raises TrackingError if the server is down or slow, refuses the call, or is not MLflow; no call
    is retried.
    """

    url: str
    """Address of the server, without credentials."""
    experiment: str = DEFAULT_EXPERIMENT
    """Name of the experiment."""
    credentials: tuple[str, str] | None = field(default=None, repr=False)
    """User name and password."""
    token: str | None = field(default=None, repr=False)
    """Bearer token, which is used if there are no credentials."""
    verify: bool | str = True
    """Whether to verify the server's certificate, or the file with the certificates to trust."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> TrackingServer | None:
        """Return the server that MLflow's own variables name, or None. Raises TrackingSettingsError."""
        uri = environment.get("MLFLOW_TRACKING_URI", "").strip()
        if not uri:
            return None
        url, credentials = _split_credentials(uri)
        username = environment.get("MLFLOW_TRACKING_USERNAME")
        if username:
            credentials = (username, environment.get("MLFLOW_TRACKING_PASSWORD", ""))
        is_insecure = environment.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in {"1", "true"}
        return cls(
            url=url,
            experiment=environment.get("MLFLOW_EXPERIMENT_NAME") or DEFAULT_EXPERIMENT,
            credentials=credentials,
            token=environment.get("MLFLOW_TRACKING_TOKEN") or None,
            verify=not is_insecure and (environment.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or True),
        )

    @property
    def name(self) -> str:
        """Scheme and host, for messages; the path is omitted because it may contain a token."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    def require_experiment(self) -> str:
        """Return the id of the experiment, creating it if it does not exist."""
        try:
            return self._find_experiment()
        except TrackingRefused as error:
            if error.code != "RESOURCE_DOES_NOT_EXIST":
                raise
        try:
            body = {"name": self.experiment}
            return self._call("POST", "experiments/create", Experiment, body=body).experiment_id
        except TrackingRefused as error:
            if error.code != "RESOURCE_ALREADY_EXISTS":
                raise
        return self._find_experiment()  # another process created it first

    def find_runs(self, experiment_id: str, tag: str, value: str) -> list[Run]:
        """List the runs whose tag has this value, but at most 1000, the oldest first.

        `value` must not contain quotes.
        """
        body = {
            "experiment_ids": [experiment_id],
            "filter": f"tags.`{tag}` = '{value}'",
            "order_by": ["attributes.start_time ASC"],
            "max_results": 1000,
        }
        return self._call("POST", "runs/search", RunsAnswer, body=body).runs

    def create_run(self, experiment_id: str, name: str, started: int, tags: Mapping[str, str]) -> Run:
        """Create a run; `started` is in milliseconds since 1970."""
        body = {
            "experiment_id": experiment_id,
            "run_name": name,
            "start_time": started,
            "tags": _build_entries(tags, LONGEST_TAG),
        }
        return self._call("POST", "runs/create", RunAnswer, body=body).run

    def fetch_history(self, run_id: str, key: str) -> list[Metric]:
        """Return every value of a metric."""
        query: dict[str, Any] = {"run_id": run_id, "metric_key": key, "max_results": _HISTORY_PAGE}
        metrics: list[Metric] = []
        while True:
            page = self._call("GET", "metrics/get-history", HistoryAnswer, query=query)
            metrics += page.metrics
            if not page.next_page_token or page.next_page_token == query.get("page_token"):
                return metrics
            query["page_token"] = page.next_page_token

    def log(
        self, run_id: str, metrics: Iterable[Metric], params: Mapping[str, str], tags: Mapping[str, str]
    ) -> None:
        """Add metrics and parameters, and set tags. The value of an existing parameter must not change."""
        numbers = [metric.model_dump() for metric in metrics]
        given, labels = _build_entries(params, LONGEST_PARAM), _build_entries(tags, LONGEST_TAG)
        while numbers or given or labels:
            body = {
                "run_id": run_id,
                "metrics": numbers[:_MOST_METRICS],
                "params": given[:_MOST_OTHERS],
                "tags": labels[:_MOST_OTHERS],
            }
            self._call("POST", "runs/log-batch", _Nothing, body=body)
            numbers, given, labels = numbers[_MOST_METRICS:], given[_MOST_OTHERS:], labels[_MOST_OTHERS:]

    def set_status(self, run_id: str, status: RunStatus, ended: int | None) -> None:
        """Set the run's status; `ended` is in milliseconds since 1970."""
        body = {"run_id": run_id, "status": status} | ({"end_time": ended} if ended is not None else {})
        self._call("POST", "runs/update", _Nothing, body=body)

    def _find_experiment(self) -> str:
        query = {"experiment_name": self.experiment}
        found = self._call("GET", "experiments/get-by-name", ExperimentAnswer, query=query)
        return found.experiment.experiment_id

    @cached_property
    def _session(self) -> requests.Session:
        session = requests.Session()
        session.verify = self.verify
        if self.credentials is not None:
            authorization = f"Basic {base64.b64encode(':'.join(self.credentials).encode()).decode()}"
        elif self.token is not None:
            authorization = f"Bearer {self.token}"
        else:
            return session

        def authorize(request: requests.PreparedRequest) -> requests.PreparedRequest:
            request.headers["Authorization"] = authorization
            return request

        session.auth = authorize  # the user's .netrc would override a header of the session
        return session

    def _call(
        self,
        method: str,
        endpoint: str,
        answer: type[Answer],
        *,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Answer:
        """Send one request. Errors omit the URL and messages from `requests`: both may contain secrets."""
        try:
            response = self._session.request(
                method,
                f"{self.url}/api/2.0/mlflow/{endpoint}",
                params=query,
                json=body,
                timeout=TIMEOUT_SECONDS,
                allow_redirects=False,  # a redirect would leak credentials, and turn a POST into a GET
            )
        except requests.Timeout:
            raise TrackingUnavailable(f"did not respond within {TIMEOUT_SECONDS[1]:.0f} s") from None
        except (requests.RequestException, UnicodeError, OSError) as error:
            raise TrackingUnavailable(f"cannot be reached ({type(error).__name__})") from None
        if response.status_code != requests.codes.ok:
            raise TrackingRefused(response.status_code, _read_error_code(response))
        try:
            return answer.model_validate_json(response.content)
        except ValidationError:
            raise TrackingUnavailable(f"did not respond to {endpoint} as MLflow would") from None


def _split_credentials(uri: str) -> tuple[str, tuple[str, str] | None]:
    """Return the http(s) address without credentials, and the credentials. Raises TrackingSettingsError."""
    try:
        parts = urlsplit(uri)
        is_usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable:
        raise TrackingSettingsError(
            "MLFLOW_TRACKING_URI must be the http:// or https:// address of a tracking server, because jobs "
            "are sent to its REST API"
        )
    url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
    if parts.username is None:
        return url, None
    return url, (unquote(parts.username), unquote(parts.password or ""))


def _build_entries(values: Mapping[str, str], longest: int) -> list[dict[str, str]]:
    return [
        {"key": key, "value": value if len(value) <= longest else f"{value[: longest - 1]}…"}
        for key, value in values.items()
    ]


def _read_error_code(response: requests.Response) -> str:
    """Return MLflow's error code, or an empty string."""
    try:
        code = str(response.json()["error_code"])
    except (ValueError, KeyError, TypeError):
        return ""
    return code if re.fullmatch(r"[A-Z_]{1,60}", code) else ""
