"""The responses of MLflow's REST API, with only the fields that a job needs."""

from __future__ import annotations

from pydantic import BaseModel


class Metric(BaseModel):
    """The value of a metric at one step."""

    key: str
    value: float
    timestamp: int
    """Milliseconds since 1970."""
    step: int = 0


class KeyValue(BaseModel):
    """A parameter or a tag."""

    key: str
    value: str = ""


class RunInfo(BaseModel):
    """MLflow's own data about a run."""

    run_id: str
    status: str = "RUNNING"


class RunData(BaseModel):
    """The data logged to a run, with only the latest value of each metric."""

    metrics: list[Metric] = []
    params: list[KeyValue] = []
    tags: list[KeyValue] = []


class Run(BaseModel):
    """A run in MLflow."""

    info: RunInfo
    data: RunData = RunData()


class Experiment(BaseModel):
    """The id of an experiment."""

    experiment_id: str


class ExperimentAnswer(BaseModel):
    """The response to a request for an experiment by its name."""

    experiment: Experiment


class RunAnswer(BaseModel):
    """The response to the creation of a run."""

    run: Run


class RunsAnswer(BaseModel):
    """The response to a search for runs."""

    runs: list[Run] = []


class HistoryAnswer(BaseModel):
    """A page of the values of a metric."""

    metrics: list[Metric] = []
    next_page_token: str | None = None
