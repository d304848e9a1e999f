"""Parses the parameter `model`, which can name five kinds of models."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePath
from typing import TYPE_CHECKING

from include.refusals import FieldError, show_value
from include.s3.location import JOB_ID, JOB_ID_RULE, has_dot_segment
from include.training.architectures import (
    find_architecture,
    find_default_architecture,
    read_published_weights,
    suggest_architecture,
)

if TYPE_CHECKING:
    from include.ultralytics_tasks import Task

WEIGHTS_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\.pt\Z")
"""Name of a file of pretrained weights. It becomes part of an S3 key and a URL, so it must not contain a
path."""

_EXAMPLES = "a name such as yolo26n.pt (pretrained) or yolo26n (from scratch), or s3://bucket/key.pt"


class ModelKind(StrEnum):
    """The kinds of models that `model` can name."""

    ARCHITECTURE = "architecture"
    """An architecture that Ultralytics ships, trained from scratch."""
    PRETRAINED = "pretrained"
    """A named file of pretrained weights."""
    OBJECT = "object"
    """A checkpoint in S3."""
    JOB = "job"
    """The best.pt of a job."""
    VERSION = "version"
    """A registered version of a model."""


@dataclass(frozen=True)
class ModelReference:
    """A parsed `model` parameter."""

    kind: ModelKind
    """Decides what `name` is."""
    text: str
    """The canonical form of the parameter, as specs store it."""
    name: str
    """The architecture, file, s3:// URI, job id or model name."""
    version: int | None = None
    """The version of a registered model; None for the version in production."""

    @classmethod
    def parse(cls, text: str) -> ModelReference:
        """Parse `text`, ignoring case where case has no meaning.

        Raises ValueError, with one sentence, if `text` does not name a model that can be trained.
        """
        text = text.strip()
        scheme, colon, rest = text.partition(":")
        rest = rest.strip()
        match scheme.lower():
            case "s3" if has_dot_segment(rest):
                raise ValueError(
                    f"model={show_value(text)} contains '.' or '..' as a folder, which S3 does not resolve; "
                    "give the address without it"
                )
            case "s3" if colon and re.fullmatch(r"//[^/]+/.+\.pt", rest):
                return cls(ModelKind.OBJECT, f"s3:{rest}", f"s3:{rest}")
            case "job" if colon:
                return _parse_job(text, rest)
            case "model" if colon:
                return _parse_version(text, rest)
        if "://" in text:
            raise ValueError(f"model={show_value(text)} cannot be fetched; give {_EXAMPLES}")
        if text.lower().endswith(".pt"):
            return _parse_weights(text)
        return _parse_architecture(text)

    @property
    def starts_from_weights(self) -> bool:
        """Whether the parameter names a file of weights rather than only an architecture."""
        return self.kind is not ModelKind.ARCHITECTURE

    def require_task(self, task: Task) -> None:
        """Raise FieldError if the name alone shows that this model is for another task."""
        built_for: str | None = None
        if self.kind is ModelKind.ARCHITECTURE:
            architecture = find_architecture(self.name)
            built_for = architecture.task if architecture else None
        elif self.kind is ModelKind.PRETRAINED:
            built_for = read_published_weights().get(self.name)
        if built_for is not None:
            require_same_task(self.text, built_for, task)


def parse_weights_name(file_name: str) -> str:
    """Return the name under which a file of pretrained weights is stored, and which `model` accepts.

    Raises ValueError, with one sentence, for a name that `model` would not accept.
    """
    name = file_name.strip()
    if not WEIGHTS_NAME.match(name[:-3] + name[-3:].lower()):
        raise ValueError(
            f"{show_value(file_name)} is not a valid name for a weights file: use at most 128 letters, "
            "digits, '.', '_' and '-', starting with a letter or a digit, followed by .pt"
        )
    return ModelReference.parse(name).name


def require_same_task(model: str, built_for: str, task: Task) -> None:
    """Raise FieldError if `model`, built for the task `built_for`, is to be trained for another task."""
    if built_for == task:
        return
    example = find_default_architecture(task)
    raise FieldError(
        f"model={show_value(model)} is a model for {built_for}, but the task is {task}; give "
        f"task={built_for!r}, or another model such "
        f"as '{example}.pt' (pretrained) or '{example}' (from scratch)"
    ).about("model")


def _parse_job(text: str, job_id: str) -> ModelReference:
    if not re.match(JOB_ID, job_id):
        raise ValueError(
            f"model={show_value(text)} does not name a job; write job:<job_id>, where job_id is {JOB_ID_RULE}"
        )
    return ModelReference(ModelKind.JOB, f"job:{job_id}", job_id)


def _parse_version(text: str, rest: str) -> ModelReference:
    name, at, version = rest.partition("@")
    number = int(version) if re.fullmatch(r"[0-9]{1,9}", version) else 0
    if not re.match(JOB_ID, name) or (at and number < 1):
        raise ValueError(
            f"model={show_value(text)} does not name a registered model; write model:<name> for its version "
            "in production, or model:<name>@<version>, such as model:digits@3"
        )
    return ModelReference(
        ModelKind.VERSION, f"model:{name}@{number}" if at else f"model:{name}", name, number if at else None
    )


def _parse_weights(text: str) -> ModelReference:
    known = {name.lower(): name for name in read_published_weights()}
    name = known.get(text.lower(), f"{text[:-3]}.pt")
    if not WEIGHTS_NAME.match(name):
        raise ValueError(
            f"model={show_value(text)} is a path, and jobs do not read files on a worker's disk; store the "
            "file with `make pretrained FILE=…` and give only its name, or upload it to S3 and give its "
            "s3:// URI"
        )
    if name in read_published_weights() and read_published_weights()[name] is None:
        raise ValueError(
            f"model={show_value(text)} is a kind of model that train_yolo does not train; give {_EXAMPLES}"
        )
    return ModelReference(ModelKind.PRETRAINED, name, name)


def _parse_architecture(text: str) -> ModelReference:
    name = text.lower()
    found = find_architecture(name)
    if found is None:
        similar = suggest_architecture(PurePath(text).name)
        hint = f"did you mean {similar}? Otherwise give" if similar else "give"
        raise ValueError(
            f"model={show_value(text)} is not an architecture that Ultralytics ships, and jobs do not read "
            f"files on a worker's disk; {hint} {_EXAMPLES}"
        )
    if found.task is None:
        raise ValueError(
            f"model={show_value(text)} is an architecture that train_yolo does not train (RT-DETR, "
            f"YOLO-World and YOLOE need different trainers); give {_EXAMPLES}"
        )
    return ModelReference(ModelKind.ARCHITECTURE, name, name)
