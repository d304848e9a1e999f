"""TrainingSpec: the parameters of a training job, with what has to go together, and their defaults.

The form in Airflow's UI and the schema that REST checks are generated from it (include.orchestration.params);
`resolve_config` validates with the model itself.
"""

from __future__ import annotations

from typing import Any, Self

from pydantic import ValidationError, model_validator

from include.errors import FinalError
from include.jobs.consistency import check_dataset_given, check_model_fits, check_pretrained
from include.jobs.loss_parameters import check_loss_rules
from include.jobs.parameters import DEFAULTS, REPLACED, Text, TrainingParameters
from include.refusals import sentence, sentences, shown
from include.training.architectures import default_weights
from include.training.contract import MODEL_SUFFIX, Task
from include.training.devices import check_multi_gpu, count_devices

_RESUME_KEEPS = ("task", "model", "dataset", "seed", "optimizer")
"""What a continued training takes from its parent: another value would make it another training."""

DIGITS_MODEL = "yolo11n"
"""Trained on the bundled digits where no model is given: from scratch, because a demo needs no network."""

_MEANS = {"publish_every", "publish_seconds", "hang_timeout", "keep_local"}
"""How a job keeps its states and is watched: each run of it says so anew."""


class SpecError(FinalError):
    """Parameters that cannot be trained, as one sentence for the person who gave them."""


class TrainingSpec(TrainingParameters):
    """The parameters of a training job, which go together.

    Unknown keys, wrong types and values out of range raise pydantic's ValidationError; `parse` makes it a
    sentence.
    """

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.resume_from is None:
            resolved = self.with_defaults()
            check_dataset_given(self.dataset, resolved.task)
            check_model_fits(self.model, resolved.task)
            check_pretrained(resolved.model, self.overrides or {})
            check_multi_gpu(count_devices(self.device), self.arguments())
            check_loss_rules(self)
        elif self.resume_from == self.job_id:
            raise ValueError(
                f"resume_from={self.resume_from!r} is this job itself; a resumed training becomes a new "
                "job: give another job_id"
            )
        elif self.model is not None and self.task is not None:
            check_model_fits(self.model, self.task)  # what the parent's spec or an XCom says of it
        return self

    @classmethod
    def parse(cls, params: dict[str, Any]) -> TrainingSpec:
        """Validate `params`. Raises SpecError: one sentence with the field, the value and the remedy."""
        for objection in _replaced(params).values():
            raise SpecError(objection)
        return cls.stored(params)

    @classmethod
    def problems(cls, params: dict[str, Any]) -> dict[str, str]:
        """Say of each wrong field of `params` why, in one sentence; none where `parse` takes them."""
        try:
            cls.model_validate(params)
        except ValidationError as error:
            return sentences(error, cls, "train_yolo") | _replaced(params)
        return _replaced(params)

    @classmethod
    def stored(cls, params: dict[str, Any]) -> TrainingSpec:
        """Validate what a row says, as `parse` does, but for what an earlier version has written."""
        try:
            return cls.model_validate(params)
        except ValidationError as error:
            raise SpecError(sentence(error, cls, "train_yolo")) from None

    def continuing(self, parent: TrainingSpec) -> TrainingSpec:
        """Take the parent's value wherever nothing was given. Raises SpecError for what must not change."""
        for name in _RESUME_KEEPS:
            given, kept = getattr(self, name), getattr(parent, name)
            if given is not None and given != _or_default(name, kept):
                raise SpecError(
                    f"{name}={given!r} differs from {_or_default(name, kept)!r} of job {self.resume_from}, "
                    "which this job continues; omit it, or start a new training from that job's best.pt "
                    "with `model`"
                )
        own = {"job_id", "fresh", "resume_from", *_MEANS}
        if self.device is None and count_devices(parent.device) > 1:
            # A run takes a slot of the pool for each GPU that its own parameters name.
            raise SpecError(
                f"device is missing: job {self.resume_from} was trained on several GPUs; give "
                f"device={parent.device!r} again, or one GPU"
            )
        inherited = parent.model_dump(exclude=own, exclude_none=True)
        given = self.model_dump(exclude_none=True)
        if self.lr0 in {None, parent.lr0} and parent.optimizer in {None, "auto"}:
            inherited.pop(
                "lr0", None
            )  # had no effect: optimizer auto has chosen another, which is in the state
            given.pop("lr0", None)
        before, changed = inherited.get("overrides", {}), given.get("overrides", {})
        if "pretrained" in changed and changed["pretrained"] != before.get("pretrained"):
            raise SpecError(
                f"pretrained={changed['pretrained']!r} has no effect on a resumed job, whose weights are "
                f"those of job {self.resume_from}; leave it out, or start a new training with `model`"
            )
        overrides = before | changed
        merged = TrainingSpec.parse(inherited | given | {"overrides": overrides})
        try:
            check_multi_gpu(count_devices(merged.device), merged.arguments())
        except ValueError as error:
            raise SpecError(str(error)) from None
        return merged

    def with_defaults(self) -> ResolvedSpec:
        """Fill in our own defaults (task, model, dataset); what is Ultralytics' default stays null."""
        task, dataset = self.task or "detect", self.dataset or "digits"
        model = self.model or (DIGITS_MODEL if dataset == "digits" else default_weights(task))
        # Not validated again: this is part of the validation.
        return ResolvedSpec.model_construct(
            **{**dict(self), "task": task, "model": model, "dataset": dataset}
        )

    def as_begun(self, begun: TrainingSpec) -> Self:
        """Write as `begun` does what means the same: defaults, spelt out or not, also of earlier versions.

        What makes a training this one is compared as it is written.
        """
        same = {
            name: getattr(begun, name)
            for name in DEFAULTS
            if _or_default(name, getattr(self, name)) == _or_default(name, getattr(begun, name))
        }
        earlier = f"yolo11n{MODEL_SUFFIX[begun.with_defaults().task]}"
        if self.model is None and begun.model == earlier:
            same["model"] = earlier
        return self.model_copy(update=same)

    def identity(self) -> dict[str, Any]:
        """Return what an interrupted training must not change when it goes on: all but its means.

        Without defaults, so that a parameter of a later version leaves earlier trainings the same.
        """
        means = {"job_id", "fresh", "device", "workers", *_MEANS}
        return self.model_dump(mode="json", exclude=means, exclude_defaults=True)

    def arguments(self) -> dict[str, Any]:
        """Return Ultralytics' own arguments as given, without task, model, data, epochs and device."""
        named = {"imgsz", "batch", "workers", "seed", "patience", "time", "optimizer", "lr0"}
        given = self.model_dump(include=named, exclude_none=True)
        if self.batch is not None and self.batch.is_integer():
            given["batch"] = int(self.batch)
        return given | (self.overrides or {})


class ResolvedSpec(TrainingSpec):
    """The parameters of a job that is trained: with our own defaults, as `with_defaults` returns them."""

    task: Task
    model: Text
    dataset: Text


def _or_default(name: str, value: object) -> object:
    return DEFAULTS.get(name) if value is None else value


def _replaced(params: dict[str, Any]) -> dict[str, str]:
    """Say of each parameter of an earlier version what took its place."""
    return {
        name: f"{name}={shown(params[name])} is no longer a parameter; use {REPLACED[name]}"
        for name in REPLACED.keys() & params.keys()
    }
