"""A run as MLflow's REST API sends it, and the numbers and labels that a job logs to it."""

from __future__ import annotations

from pydantic import BaseModel


class Metric(BaseModel):
    """One number at one step; timestamp in milliseconds since 1970."""

    key: str
    value: float
    timestamp: int
    step: int = 0


class Entry(BaseModel):
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
    params: list[Entry] = []
    tags: list[Entry] = []


class Run(BaseModel):
    """A run in MLflow."""

    info: RunInfo
    data: RunData = RunData()
