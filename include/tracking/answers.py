"""The responses of MLflow's REST API, with only the fields that a job needs."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

RunStatus = Literal["SCHEDULED", "RUNNING", "FINISHED", "FAILED", "KILLED"]
"""The statuses of MLflow's runs."""


class Metric(BaseModel):
    """The value of a metric at one step."""

    key: str
    """Name of the metric."""
    value: float
    """Its value at the step."""
    timestamp: int
    """Milliseconds since 1970."""
    step: int = 0
    """The epoch, counted from 0."""


class KeyValue(BaseModel):
    """A parameter or a tag."""

    key: str
    """Name of the parameter or tag."""
    value: str = ""
    """Its value as text; empty if the response has none."""


class RunInfo(BaseModel):
    """MLflow's own data about a run."""

    run_id: str
    """Id of the run, which MLflow chooses."""
    status: str = "RUNNING"
    """A RunStatus, or another one that a newer MLflow has added."""


class RunData(BaseModel):
    """The data logged to a run, with only the latest value of each metric."""

    metrics: list[Metric] = []
    """The latest value of each metric."""
    params: list[KeyValue] = []
    """The parameters; MLflow refuses to change their values."""
    tags: list[KeyValue] = []
    """The tags, both ours and MLflow's own."""


class Run(BaseModel):
    """A run in MLflow."""

    info: RunInfo
    """Its id and status."""
    data: RunData = RunData()
    """What was logged to it."""


class Experiment(BaseModel):
    """The id of an experiment."""

    experiment_id: str
    """Number of the experiment, as text."""


class ExperimentAnswer(BaseModel):
    """The response to a request for an experiment by its name."""

    experiment: Experiment
    """The experiment with that name."""


class RunAnswer(BaseModel):
    """The response to the creation of a run."""

    run: Run
    """The new run."""


class RunsAnswer(BaseModel):
    """The response to a search for runs."""

    runs: list[Run] = []
    """The runs found, in the order of the request."""


class HistoryAnswer(BaseModel):
    """A page of the values of a metric."""

    metrics: list[Metric] = []
    """Values of the metric, at any step."""
    next_page_token: str | None = None
    """Token for the next page; None or empty on the last page."""
