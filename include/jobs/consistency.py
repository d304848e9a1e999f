"""Checks that a job's parameters are consistent; each error message says what to change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from include.jobs.model_reference import ModelReference
from include.refusals import FieldError, show_value
from include.training.architectures import read_published_weights

if TYPE_CHECKING:
    from include.jobs.spec import TrainingSpec
    from include.ultralytics_tasks import Task


def check_dataset_given(dataset: str | None, task: Task) -> None:
    """Raise FieldError if `task` needs a dataset and none is given."""
    if task != "detect" and dataset in {None, "digits"}:
        raise FieldError(
            f"dataset={dataset!r} does not go with task={task!r}: the bundled digits are for detect only; "
            f"give a registered dataset, s3://… or a path with data for {task}"
        ).about("dataset")


def check_model_fits(model: str | None, task: Task) -> None:
    """Raise FieldError if the name of `model` shows that it is for another task."""
    if model is not None:
        ModelReference.parse(model).require_task(task)


def check_merging(task: Task | None, overrides: Mapping[str, Any]) -> None:
    """Raise FieldError for `single_cls` where Ultralytics cannot merge the classes."""
    if task == "semantic" and overrides.get("single_cls"):
        raise FieldError(
            "single_cls=true does not go with task='semantic': the classes in masks cannot be merged; omit "
            "it, and give a dataset whose `names` lists a single class"
        ).about("overrides")


def check_task_arguments(task: Task | None, overrides: Mapping[str, Any]) -> None:
    """Raise FieldError for values that Ultralytics accepts, but cannot use for the task."""
    scale, classes = overrides.get("scale"), overrides.get("classes")
    if task == "classify" and isinstance(scale, (list, tuple)):
        raise FieldError(
            f"scale={list(scale)} does not go with task='classify', which crops up to this share of an "
            "image; give a single number between 0 and 1"
        ).about("overrides")
    if task == "depth" and classes is not None:
        raise FieldError(
            f"classes={show_value(classes)} does not go with task='depth', which has no classes; omit it"
        ).about("overrides")


def check_pretrained(model: str, overrides: Mapping[str, Any]) -> None:
    """Raise FieldError for `pretrained: true` where Ultralytics would silently train from scratch."""
    reference = ModelReference.parse(model)
    if overrides.get("pretrained") is not True or reference.starts_from_weights:
        return
    weights = f"{reference.name.removesuffix('.yaml').removesuffix('.yml')}.pt"
    named = weights if weights in read_published_weights() else "yolo26n.pt"
    raise FieldError(
        f"pretrained=true has no effect with model={reference.text!r}, which is trained from scratch; give "
        f"model={named!r} to start from pretrained weights"
    ).about("overrides")


def check_loss_rules(spec: TrainingSpec) -> None:
    """Raise FieldError if a rule is off but has settings, because the user apparently expects it to apply."""
    if spec.loss_spike is not None and spec.on_loss_spike is None:
        raise FieldError(
            f"loss_spike={spec.loss_spike:g} does nothing while on_loss_spike is empty; set on_loss_spike, "
            "or omit loss_spike"
        ).about("loss_spike")
    if spec.build_loss_rules().needs_states:
        return
    for name, value in (("roll_back_states", spec.roll_back_states), ("roll_back_lr", spec.roll_back_lr)):
        if value is not None:
            raise FieldError(
                f"{name}={value} does nothing without a rule that rolls back; set on_loss_spike='roll back' "
                f"or on_nan='roll back', or omit {name}"
            ).about(name)
