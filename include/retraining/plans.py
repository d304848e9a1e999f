"""The reviewed file of retraining plans: what to train, on what, when, and with which gate."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from croniter import croniter
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from include.datasets.errors import DatasetError
from include.datasets.layouts.data_yaml import load_yaml
from include.datasets.registered import parse_registered
from include.datasets.sources import parse_source
from include.errors import FinalError
from include.jobs.spec import SpecError, TrainingSpec
from include.refusals import show_value
from include.retraining.gate import METRICS, Gate
from include.training.architectures import default_metric
from include.ultralytics_tasks import Task

if TYPE_CHECKING:
    from pydantic import ValidationInfo

PLANS = Path(__file__).resolve().parents[1] / "retrain_plans.yaml"
"""The default file, in this repository; RETRAIN_PLANS names another one."""

NAME = r"^[a-z0-9][a-z0-9_-]{0,63}\Z"
NAME_RULE = "1 to 64 lower-case letters, digits, '_' or '-', starting with a letter or a digit"

_PRESETS = ("@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly")
_CRON_FIELDS = 5

_RESERVED = ("job_id", "fresh", "dataset", "task", "model", "resume_from")
"""Parameters of `train_yolo` that the plan and its run determine; `parameters` may contain all others."""


class PlanError(FinalError):
    """The plan does not exist or is invalid; the message is one sentence."""


class _Part(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, regex_engine="python-re"
    )


class Schedule(_Part):
    """When a plan runs automatically: at certain times (UTC), when data change, or both."""

    cron: str | None = None
    on_new_data: bool = False

    @field_validator("cron")
    @classmethod
    def _require_valid_cron(cls, cron: str | None) -> str | None:
        if cron is None or cron in _PRESETS:
            return cron
        if len(cron.split()) != _CRON_FIELDS or not croniter.is_valid(cron):
            raise ValueError(
                f"{cron!r} is not a cron expression; give five fields such as '0 3 * * 1', or one of "
                f"{', '.join(_PRESETS)}"
            )
        return cron

    @model_validator(mode="after")
    def _require_trigger(self) -> Self:
        if self.cron is None and not self.on_new_data:
            raise ValueError("it needs cron or on_new_data: true; add one, or remove schedule")
        return self


class RetrainPlan(_Part):
    """One plan. Its name is also the name of the model whose versions it creates.

    parameters are those of `train_yolo`. The first training run starts from `model`; later ones do if
    start_from is scratch. timeout_hours is how long a run waits for its training run.
    """

    name: str = Field(pattern=NAME)
    dataset: str = Field(min_length=1)
    task: Task = "detect"
    model: str | None = None
    start_from: Literal["champion", "scratch"] = "champion"
    parameters: dict[str, Any] = Field(default_factory=dict)
    schedule: Schedule | None = None
    timeout_hours: float = Field(24, gt=0, le=24 * 60)
    gate: Gate = Field(default=Gate(), validate_default=True)
    approval: bool = False

    @field_validator("parameters")
    @classmethod
    def _reject_reserved(cls, parameters: dict[str, Any]) -> dict[str, Any]:
        for name in _RESERVED:
            if name in parameters:
                remedy = "it is a field of the plan" if name in cls.model_fields else "each run sets its own"
                raise ValueError(f"{name} does not belong here: {remedy}")
        return parameters

    @field_validator("gate")
    @classmethod
    def _decide_by_task(cls, gate: Gate, info: ValidationInfo) -> Gate:
        """Fill in the default metric of the task if the plan names no metric."""
        task = info.data.get("task")
        if task is None or "metric" in gate.model_fields_set:
            return gate
        return gate.model_copy(update={"metric": default_metric(task)})

    @model_validator(mode="after")
    def _require_trainable(self) -> Self:
        try:
            self.spec()
            # Check only the syntax: the machine that reads plans may have neither the path nor the dataset.
            if parse_registered(self.dataset) is None:
                parse_source(self.dataset, self.task)
        except (PlanError, DatasetError) as error:
            raise ValueError(str(error)) from None
        if self.gate.metric not in METRICS[self.task]:
            raise ValueError(
                f"gate.metric={self.gate.metric!r} is not measured for task={self.task!r}; give one of "
                f"{', '.join(METRICS[self.task])}"
            )
        return self

    def spec(self, model: str | None = None) -> TrainingSpec:
        """Return the parameters for `train_yolo`, starting from `model` if given. Raises PlanError."""
        given = {"dataset": self.dataset, "task": self.task, "model": model or self.model}
        try:
            return TrainingSpec.parse(given | self.parameters)
        except SpecError as error:
            field = re.match(r"\w*", str(error))
            ours = field is not None and field[0] in self.parameters
            raise PlanError(f"parameters.{error}" if ours else str(error)) from None

    def fingerprint(self) -> str:
        """Return the SHA-256 of all settings that determine the result of training on given data."""
        decides = self.spec().with_defaults().identity() | {"start_from": self.start_from}
        del decides["dataset"]  # the data have a fingerprint of their own
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Plans:
    """The content of a file of plans: the valid plans by name, and a sentence for each error."""

    path: Path
    valid: Mapping[str, RetrainPlan]
    errors: tuple[str, ...]

    def require(self, name: str) -> RetrainPlan:
        """Return the plan of that name. Raises PlanError."""
        if name in self.valid:
            return self.valid[name]
        wrong = [error for error in self.errors if error.startswith(_label(name))]
        if wrong:
            raise PlanError(f"{'; '.join(wrong)}; correct it in {self.path}")
        known = ", ".join(self.valid) or "none"
        raise PlanError(f"plan={show_value(name)} is not in {self.path}; the valid plans there are: {known}")


def load_plans(path: Path) -> Plans:
    """Read a file of plans. Never raises: `errors` lists the problems, with plan and field."""
    try:
        content = load_yaml(path)
    except (OSError, ValueError) as error:
        return Plans(path, {}, (f"{path} cannot be read as YAML: {error}",))
    entries = content.get("plans") if isinstance(content, dict) and set(content) == {"plans"} else None
    if not isinstance(entries, list):
        return Plans(path, {}, (f"{path} must contain a single key, plans, with a list of plans",))
    valid: dict[str, RetrainPlan] = {}
    errors: list[str] = []
    taken: set[str] = set()
    for number, entry in enumerate(entries, 1):
        label = _label(entry["name"]) if isinstance(entry, dict) and entry.get("name") else f"plan {number}"
        if label in taken:
            errors.append(f"{label}: an earlier plan has the same name; give each plan its own")
            continue
        taken.add(label)
        try:
            plan = RetrainPlan.model_validate(entry)
        except ValidationError as error:
            errors += [f"{label}: {problem}" for problem in describe_problems(error)]
        else:
            valid[plan.name] = plan
    return Plans(path, valid, tuple(errors))


def describe_problems(error: ValidationError) -> list[str]:
    """Turn pydantic's errors about a plan into sentences, one for each field."""
    return [_sentence(dict(found)) for found in error.errors(include_url=False)]


def _label(name: object) -> str:
    return f"plan {show_value(name)}"


def _sentence(found: Mapping[str, Any]) -> str:
    field = ".".join(map(str, found["loc"]))
    match found["type"]:
        case "missing":
            return f"{field} is missing"
        case "extra_forbidden":
            return f"{field} is not a field of a plan; the fields are {', '.join(RetrainPlan.model_fields)}"
        case "string_pattern_mismatch":
            return f"{field}={show_value(found['input'])} is refused: it must be {NAME_RULE}"
        case "value_error":
            return f"{field}: {found['ctx']['error']}" if field else str(found["ctx"]["error"])
    objection = f"{found['msg'][0].lower()}{found['msg'][1:]}"
    return f"{field or 'it'}={show_value(found['input'])} is refused: {objection}"
