"""The file of retraining plans: what to train, on which data, when, and with which gate."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from croniter import CroniterBadDateError, croniter
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from include.datasets.errors import DatasetError
from include.datasets.layouts.data_yaml import load_yaml
from include.datasets.registered import parse_registered
from include.datasets.sources import parse_source
from include.errors import FinalError
from include.jobs.spec import SpecError, TrainingSpec
from include.refusals import describe_error, format_path, show_value
from include.retraining.gate import METRICS, Gate
from include.training.architectures import find_default_metric
from include.ultralytics_tasks import Task

if TYPE_CHECKING:
    from pydantic import ValidationInfo
    from pydantic_core import ErrorDetails

PLANS = Path(__file__).resolve().parents[1] / "retrain_plans.yaml"
"""The file in this repository, which is used unless RETRAIN_PLANS names another one."""

NAME = r"^[a-z0-9][a-z0-9_-]{0,63}\Z"
NAME_RULE = "1 to 64 lower-case letters, digits, '_' or '-', starting with a letter or a digit"

_PRESETS = ("@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly")
_CRON_FIELDS = 5

_RESERVED = ("job_id", "fresh", "dataset", "task", "model", "resume_from")
"""Parameters of `train_yolo` that `parameters` must not contain: other fields, or the run, set them."""


class PlanError(FinalError):
    """The plan does not exist or is invalid; the message is one sentence."""


class _StrictModel(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, regex_engine="python-re"
    )


class Schedule(_StrictModel):
    """When a plan runs automatically."""

    cron: str | None = None
    """Times in UTC: a cron expression of five fields, or a preset such as @weekly; None if there are none."""
    on_new_data: bool = False
    """Whether the plan also runs when its dataset changes."""

    @field_validator("cron")
    @classmethod
    def _require_valid_cron(cls, cron: str | None) -> str | None:
        if cron is None or cron in _PRESETS:
            return cron
        if len(cron.split()) != _CRON_FIELDS or not croniter.is_valid(cron):
            raise ValueError(
                f"schedule.cron: {cron!r} is not a cron expression; give five fields such as '0 3 * * 1', "
                f"or one of {', '.join(_PRESETS)}"
            )
        try:
            croniter(cron).get_next()
        except CroniterBadDateError:
            raise ValueError(
                f"schedule.cron: {cron!r} never occurs; give days that exist in the given months"
            ) from None
        return cron

    @model_validator(mode="after")
    def _require_trigger(self) -> Self:
        if self.cron is None and not self.on_new_data:
            raise ValueError(
                "schedule must contain cron or on_new_data: true; add one of them, or remove schedule"
            )
        return self


class RetrainPlan(_StrictModel):
    """One plan."""

    name: str = Field(pattern=NAME)
    """Name of the plan, and of the model whose versions it creates."""
    dataset: str = Field(min_length=1)
    """A registered dataset, an address, a path or `digits`, as in `train_yolo`."""
    task: Task = "detect"
    """The task for which the model is trained."""
    model: str | None = None
    """The model from which the first training run starts; None for the default of `train_yolo`."""
    start_from: Literal["champion", "scratch"] = "champion"
    """Where later training runs start: from the model in production, or from `model`."""
    parameters: dict[str, Any] = Field(default_factory=dict)
    """Parameters of `train_yolo`."""
    schedule: Schedule | None = None
    """When the plan runs automatically; None if it is only started by hand."""
    timeout_hours: float = Field(24, gt=0, le=24 * 60)
    """How long a run waits for its training run."""
    gate: Gate = Field(default=Gate(), validate_default=True)
    """What a new version has to achieve."""
    approval: bool = False
    """Whether a person has to approve the promotion."""

    @field_validator("parameters")
    @classmethod
    def _reject_reserved(cls, parameters: dict[str, Any]) -> dict[str, Any]:
        for name in _RESERVED:
            if name in parameters:
                remedy = "it is a field of the plan" if name in cls.model_fields else "each run sets its own"
                raise ValueError(f"parameters: {name} does not belong here: {remedy}")
        return parameters

    @field_validator("gate")
    @classmethod
    def _decide_by_task(cls, gate: Gate, info: ValidationInfo) -> Gate:
        """Fill in the default metric of the task if the plan names no metric."""
        task = info.data.get("task")
        if task is None or "metric" in gate.model_fields_set:
            return gate
        return gate.model_copy(update={"metric": find_default_metric(task)})

    @model_validator(mode="after")
    def _require_trainable(self) -> Self:
        try:
            self.build_spec()
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

    def build_spec(self, model: str | None = None) -> TrainingSpec:
        """Return the parameters for `train_yolo`, starting from `model` if given. Raises PlanError."""
        given = {"dataset": self.dataset, "task": self.task, "model": model or self.model}
        try:
            return TrainingSpec.parse(given | self.parameters)
        except SpecError as error:
            # An error about `overrides` usually starts with the argument's name, not with the parameter's.
            prefix = "parameters.overrides: " if error.field == "overrides" else "parameters."
            raise PlanError(f"{prefix}{error}" if error.field in self.parameters else str(error)) from None

    def compute_fingerprint(self) -> str:
        """Return the SHA-256 of all settings that determine the result of training on given data."""
        decides = self.build_spec().with_defaults().identity() | {"start_from": self.start_from}
        del decides["dataset"]  # the data have their own fingerprint
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Plans:
    """The content of a file of plans."""

    path: Path
    """The file."""
    valid: Mapping[str, RetrainPlan]
    """The valid plans, by name."""
    problems: tuple[tuple[object, str], ...]
    """For each error, the name of the plan (None if the plan has no name) and a sentence."""

    @property
    def errors(self) -> tuple[str, ...]:
        """A sentence for each error."""
        return tuple(sentence for _, sentence in self.problems)

    def require(self, name: str) -> RetrainPlan:
        """Return the plan of that name. Raises PlanError."""
        if name in self.valid:
            return self.valid[name]
        wrong = [sentence for plan, sentence in self.problems if plan == name]
        if wrong:
            raise PlanError(f"{'; '.join(wrong)}; correct it in {self.path}")
        known = ", ".join(self.valid) or "none"
        raise PlanError(f"plan={show_value(name)} is not in {self.path}; the valid plans there are: {known}")


def load_plans(path: Path) -> Plans:
    """Read a file of plans. Never raises: `errors` lists the problems, each with its plan and field."""
    try:
        content = load_yaml(path)
    except (OSError, ValueError) as error:
        return Plans(path, {}, ((None, f"{path} cannot be read as YAML: {error}"),))
    entries = content.get("plans") if isinstance(content, dict) and set(content) == {"plans"} else None
    if not isinstance(entries, list):
        return Plans(path, {}, ((None, f"{path} must contain a single key, plans, with a list of plans"),))
    valid: dict[str, RetrainPlan] = {}
    problems: list[tuple[object, str]] = []
    taken: set[str] = set()
    for number, entry in enumerate(entries, 1):
        name = entry.get("name") if isinstance(entry, dict) else None
        label = f"plan {show_value(name) if name else number}"
        if label in taken:
            problems.append((name, f"{label}: an earlier plan has the same name; names must be unique"))
            continue
        taken.add(label)
        try:
            plan = RetrainPlan.model_validate(entry)
        except ValidationError as error:
            problems += [(name, f"{label}: {problem}") for problem in describe_problems(error)]
        else:
            valid[plan.name] = plan
    return Plans(path, valid, tuple(problems))


def describe_problems(error: ValidationError) -> list[str]:
    """Turn pydantic's errors about a plan into sentences, one for each field."""
    return [_describe(found) for found in error.errors(include_url=False)]


def _describe(found: ErrorDetails) -> str:
    field = format_path(found["loc"])
    match found["type"]:
        case "missing":
            return f"{field} is missing"
        case "extra_forbidden":
            return f"{field} is not a field of a plan; the fields are {', '.join(RetrainPlan.model_fields)}"
        case "string_pattern_mismatch":
            return f"{field}={show_value(found['input'])} is refused: it must be {NAME_RULE}"
    return describe_error(found, RetrainPlan, "a plan")
