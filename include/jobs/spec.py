"""TrainingSpec: the parameters of a training job, checked against each other, and their defaults.

Airflow's form and the schema of its REST API are generated from this model (include.orchestration.params);
`resolve_config` validates with the model itself.
"""

from __future__ import annotations

from typing import Any, Self

from pydantic import ConfigDict, ValidationError, model_validator

from include.datasets.registered import parse_registered
from include.errors import FinalError
from include.jobs.consistency import (
    check_dataset_given,
    check_loss_rules,
    check_merging,
    check_model_fits,
    check_pretrained,
    check_task_arguments,
)
from include.jobs.job import TRAINING_DAG
from include.jobs.outdated import explain_outdated
from include.jobs.parameters import DEFAULTS, Text, TrainingParameters
from include.refusals import FieldError, describe_errors, find_first_error
from include.training.architectures import find_default_weights
from include.training.arguments import OURS, read_known_arguments
from include.training.contract import MODEL_SUFFIX
from include.training.devices import check_multi_gpu, count_devices
from include.training.loss_rules import NO_RULES, Action, LossRules
from include.ultralytics_tasks import Task

_KEPT_ON_RESUME = ("task", "model", "dataset", "seed", "optimizer")
"""Parameters that a resumed training run inherits from its parent and may not change."""

DIGITS_MODEL = "yolo11n"
"""Default model for the bundled digits: trained from scratch, so that a demo needs no network."""

_PER_RUN = {"publish_every", "publish_seconds", "hang_timeout", "keep_local"}
"""Parameters of storage and supervision; they are not inherited but given for each run."""

_NOT_INHERITED = {"job_id", "fresh", "resume_from", *_PER_RUN}

_NAMES_IN_ULTRALYTICS = {"dataset": "data"}
"""Ultralytics' names of parameters that have a different name here."""


class SpecError(FinalError, FieldError):
    """The parameters are invalid; the message tells the user in one sentence what to change."""


def _describe_parameters(schema: dict[str, Any]) -> None:
    """Add to each parameter whether a resumed job inherits it, and its name in Ultralytics, if any."""
    theirs = read_known_arguments().keys() | OURS.keys()
    for name, parameter in schema["properties"].items():
        parameter["inherited"] = name not in _NOT_INHERITED
        argument = _NAMES_IN_ULTRALYTICS.get(name, name)
        if argument in theirs:
            parameter["argument"] = argument


class TrainingSpec(TrainingParameters):
    """The consistent parameters of a training job.

    Unknown keys, wrong types and values out of range raise pydantic's ValidationError; `parse` turns that
    error into one sentence.
    """

    model_config = ConfigDict(json_schema_extra=_describe_parameters)

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        if self.resume_from is None:
            resolved = self.with_defaults()
            check_dataset_given(self.dataset, resolved.task)
            if self.task is not None or parse_registered(self.dataset or "") is None:
                check_model_fits(self.model, resolved.task)  # or later, once the dataset's task is known
            check_merging(resolved.task, self.overrides or {})
            check_task_arguments(resolved.task, self.overrides or {})
            check_pretrained(resolved.model, self.overrides or {})
            check_multi_gpu(count_devices(self.device), self.build_arguments())
            check_loss_rules(self)
        elif self.resume_from == self.job_id:
            raise FieldError(
                f"resume_from={self.resume_from!r} is this job itself; a resumed training run becomes a new "
                "job: give another job_id"
            ).about("resume_from")
        elif self.model is not None and self.task is not None:
            check_model_fits(self.model, self.task)  # both are set in a parent's spec or an XCom
        return self

    @classmethod
    def parse(cls, params: dict[str, Any]) -> Self:
        """Validate `params`. Raises SpecError: one sentence with the field, the value and the remedy."""
        for field, objection in explain_outdated(params, cls.model_fields).items():
            raise SpecError(objection).about(field)
        return cls.parse_stored(params)

    @classmethod
    def find_problems(cls, params: dict[str, Any]) -> dict[str, str]:
        """Return one sentence for each invalid field of `params`; none if `parse` accepts them."""
        outdated = explain_outdated(params, cls.model_fields)
        try:
            cls.model_validate(params)
        except ValidationError as error:
            return describe_errors(error, cls, TRAINING_DAG) | outdated
        return outdated

    @classmethod
    def parse_stored(cls, params: dict[str, Any]) -> Self:
        """Validate a stored spec as `parse` does, but accept what specs of earlier versions contain."""
        try:
            return cls.model_validate(params)
        except ValidationError as error:
            wrong = find_first_error(error, cls, TRAINING_DAG)
            raise SpecError(str(wrong)).about(wrong.field) from None

    def inherit_from(self, parent: TrainingSpec) -> TrainingSpec:
        """Fill in the parent's values where none are given. Raises SpecError for a forbidden change."""
        pinned = self.with_version_of(parent)
        if pinned != self:
            return pinned.inherit_from(parent)
        for name in _KEPT_ON_RESUME:
            given, kept = getattr(self, name), getattr(parent, name)
            if given is not None and given != _fill_default(name, kept):
                raise SpecError(
                    f"{name}={given!r} differs from {_fill_default(name, kept)!r} of job {self.resume_from}, "
                    "which this job continues; omit it, or start a new training run from that job's best.pt "
                    "with `model`"
                ).about(name)
        if self.device is None and count_devices(parent.device) > 1:
            # A run takes one pool slot for each GPU in its own parameters, so the GPUs must be named there.
            raise SpecError(
                f"device is missing: job {self.resume_from} was trained on several GPUs; give "
                f"device={parent.device!r} again, or one GPU"
            ).about("device")
        inherited = parent.model_dump(exclude=_NOT_INHERITED, exclude_none=True)
        given = self.model_dump(exclude_none=True)
        if self.lr0 in {None, parent.lr0} and parent.optimizer in {None, "auto"}:
            # lr0 had no effect: optimizer=auto chose a different learning rate, which is in the state.
            inherited.pop("lr0", None)
            given.pop("lr0", None)
        before, changed = inherited.get("overrides", {}), given.get("overrides", {})
        if "pretrained" in changed and changed["pretrained"] != before.get("pretrained"):
            raise SpecError(
                f"pretrained={changed['pretrained']!r} has no effect on a resumed job, whose weights are "
                f"those of job {self.resume_from}; omit it, or start a new training run with `model`"
            ).about("overrides")
        overrides = before | changed
        merged = TrainingSpec.parse(inherited | given | {"overrides": overrides})
        self._check_merged(merged)
        return merged

    def _check_merged(self, merged: TrainingSpec) -> None:
        """Raise SpecError if the given parameters contradict the parent's, with which they were merged."""
        overrides = merged.overrides or {}
        numbers = {name: getattr(self, name) for name in ("loss_spike", "roll_back_states", "roll_back_lr")}
        try:
            check_multi_gpu(count_devices(merged.device), merged.build_arguments())
            check_merging(merged.task, overrides)
            check_task_arguments(merged.task, overrides)
            check_loss_rules(merged.model_copy(update=numbers))  # inherited numbers may have lost their rule
        except FieldError as error:
            raise SpecError(str(error)).about(error.field) from None

    def with_defaults(self) -> ResolvedSpec:
        """Fill in our own defaults (task, model, dataset); Ultralytics' defaults stay null."""
        task, dataset = self.task or "detect", self.dataset or "digits"
        model = self.model or (DIGITS_MODEL if dataset == "digits" else find_default_weights(task))
        # Without validation, because the validator itself calls this method.
        return ResolvedSpec.model_construct(
            **{**dict(self), "task": task, "model": model, "dataset": dataset}
        )

    def with_spelling_of(self, original: TrainingSpec) -> Self:
        """Write or omit defaults as `original` does, including defaults of earlier versions.

        This is necessary because the parameters that identify a training run are compared as written.
        """
        same = {
            name: getattr(original, name)
            for name in DEFAULTS
            if _fill_default(name, getattr(self, name)) == _fill_default(name, getattr(original, name))
        }
        earlier = f"yolo11n{MODEL_SUFFIX[original.with_defaults().task]}"
        if self.model is None and original.model == earlier:
            same["model"] = earlier
        return self.with_version_of(original).model_copy(update=same)

    def with_version_of(self, other: TrainingSpec) -> Self:
        """Return this spec with the version that `other` names, if both name the same registered dataset.

        If this spec already names a version, that version is kept.
        """
        named, pinned = parse_registered(self.dataset or ""), parse_registered(other.dataset or "")
        if named is None or not named.may_be(pinned):
            return self
        return self.model_copy(update={"dataset": str(pinned), "task": self.task or other.task})

    def identity(self) -> dict[str, Any]:
        """Return the parameters that an interrupted training run must keep when it continues.

        Defaults are omitted, so that a new parameter does not change the identity of earlier training runs.
        """
        changeable = {"job_id", "fresh", "device", "workers", *_PER_RUN}
        return self.model_dump(mode="json", exclude=changeable, exclude_defaults=True)

    def build_loss_rules(self) -> LossRules:
        """Return the rules for a loss that jumps or is not a number, with our defaults for null."""
        return LossRules(
            on_spike=Action(self.on_loss_spike) if self.on_loss_spike else None,
            on_nan=Action(self.on_nan) if self.on_nan else None,
            factor=self.loss_spike or NO_RULES.factor,
            states=self.roll_back_states or NO_RULES.states,
            rate=self.roll_back_lr or NO_RULES.rate,
        )

    def build_arguments(self) -> dict[str, Any]:
        """Return Ultralytics' own arguments as given, except task, model, data, epochs and device."""
        named = {"imgsz", "batch", "workers", "seed", "patience", "time", "optimizer", "lr0"}
        given = self.model_dump(include=named, exclude_none=True)
        if self.batch is not None and self.batch.is_integer():
            given["batch"] = int(self.batch)
        return given | (self.overrides or {})


class ResolvedSpec(TrainingSpec):
    """Parameters with our own defaults filled in, as `with_defaults` returns them."""

    task: Task
    """As given, or `detect`."""
    model: Text
    """As given, or the default of the task; yolo11n from scratch for the bundled digits."""
    dataset: Text
    """As given, or `digits`."""


def _fill_default(name: str, value: object) -> object:
    return DEFAULTS.get(name) if value is None else value
