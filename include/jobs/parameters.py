"""Definition of every parameter of a training job: type, bounds and description.

Training parameters default to null, because "not given" must differ from any given value. With `resume_from`,
null means the parent's value if the parameter is inherited. In all other cases, null means Ultralytics'
default, or ours.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from include.datasets.errors import DatasetError
from include.datasets.registered import parse_registered
from include.jobs.model_reference import ModelReference
from include.jobs.outdated import update_outdated
from include.jobs.parameter_schema import nullable
from include.limits import TEXT
from include.plain_text import is_one_line
from include.refusals import show_value
from include.request import as_text, drop_blanks, is_blank, use_whole_numbers
from include.s3.location import JOB_ID, JOB_ID_RULE
from include.training.architectures import find_default_weights
from include.training.arguments import check_no_files, check_overrides
from include.training.loss_rules import NO_RULES
from include.ultralytics_tasks import TASKS, Task

if TYPE_CHECKING:
    from pydantic import ValidationInfo

Optimizer = Literal["auto", "SGD", "MuSGD", "Adam", "Adamax", "AdamW", "NAdam", "RAdam", "RMSProp"]

DEFAULTS: dict[str, int | str] = {
    "epochs": 100,
    "imgsz": 640,
    "batch": 16,
    "seed": 0,
    "patience": 100,
    "optimizer": "auto",
}
"""Ultralytics' own defaults: giving one of them has the same effect as giving nothing."""

_JOB = "Job"
_DATA = "Data and model"
_TRAINING = "Training"
_LOSS = "Loss spikes and NaN"
_CONTINUING = "Resuming and storage"


def _turn_blank_to_none(value: object) -> object:
    return None if is_blank(value) else value


def _check_one_line(text: str | None, info: ValidationInfo) -> str | None:
    if text is None or is_one_line(text):
        return text
    raise ValueError(f"{info.field_name}={show_value(text)} contains a control character; remove it")


OptionalText = Annotated[str | None, BeforeValidator(_turn_blank_to_none), AfterValidator(_check_one_line)]
Text = Annotated[str, Field(max_length=TEXT), AfterValidator(_check_one_line)]


class TrainingParameters(BaseModel):
    """Every parameter of a training job, each validated on its own; TrainingSpec checks them together."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, regex_engine="python-re"
    )

    job_id: str | None = nullable(
        _JOB,
        f"Name of the job and of its checkpoints: {JOB_ID_RULE}.",
        when_empty="a generated name",
        pattern=JOB_ID,
    )
    fresh: bool = Field(
        False,
        description="Discard any previous training run of this job and start from scratch.",
        json_schema_extra={"section": _JOB, "type": ["boolean", "null"]},
    )
    dataset: OptionalText = nullable(
        _DATA,
        "digits (bundled handwritten digits, detect only), a registered dataset (its name, or "
        "name@version), s3://… (a .zip, a prefix, a data YAML, an .ndjson export or COCO .json), or a path "
        "under one of the folders in the workers' DATASET_ROOTS.",
        default="digits",
        when_empty="digits for detect; required for every other task",
        max_length=TEXT,
    )
    task: Task | None = nullable(
        _DATA,
        "What the model does.",
        default="detect",
        when_empty="the registered dataset's task; detect for any other dataset",
    )
    model: OptionalText = nullable(
        _DATA,
        "yolo11n.pt (pretrained), yolo11n or yolo11n.yaml (from scratch), s3://…/*.pt, "
        "job:{job_id} (that job's best.pt), or model:{name}@{version} (a registered version; without @, the "
        "version in production).",
        default_by_task={task: find_default_weights(task) for task in TASKS},
        when_empty="yolo26n.pt with the task's suffix; for digits, yolo11n from scratch",
        max_length=TEXT,
    )
    epochs: int | None = nullable(
        _TRAINING, "Total number of epochs.", default=DEFAULTS["epochs"], ge=1, le=100_000
    )
    imgsz: int | None = nullable(
        _TRAINING,
        "Side of the square training images in pixels, rounded up to a multiple of 32.",
        default=DEFAULTS["imgsz"],
        ge=32,
        le=8192,
    )
    batch: float | None = nullable(
        _TRAINING,
        "Images per batch. -1, or a fraction (the share of GPU memory to use), lets Ultralytics choose.",
        default=DEFAULTS["batch"],
        ge=-1,
        le=65_536,
    )
    device: OptionalText = nullable(
        _TRAINING,
        "auto, cpu, mps, or the number of a GPU, such as 0; 0,1 trains on two GPUs.",
        default="auto",
        when_empty="auto, which takes a free GPU, or the CPU if CPU_WORKER is true",
        types=["string", "integer", "null"],
        pattern=r"^(auto|cpu|mps|(cuda:)?\d{1,3}(,\d{1,3}){0,63})\Z",
    )
    workers: int | None = nullable(
        _TRAINING,
        "Number of processes that load data.",
        when_empty="8 on a GPU; always 0 on a CPU",
        ge=0,
        le=256,
    )
    seed: int | None = nullable(
        _TRAINING, "Seed of all random numbers.", default=DEFAULTS["seed"], ge=0, le=2**31
    )
    patience: int | None = nullable(
        _TRAINING,
        "Stop early after this many epochs without a better fitness; 0 never stops early.",
        default=DEFAULTS["patience"],
        ge=0,
        le=100_000,
    )
    time: float | None = nullable(
        _TRAINING,
        "Time budget in hours for all attempts together, used instead of epochs.",
        when_empty="none",
        gt=0,
        le=8_760,
    )
    optimizer: Optimizer | None = nullable(
        _TRAINING, "Optimizer; auto also chooses lr0 and momentum.", default=DEFAULTS["optimizer"]
    )
    lr0: float | None = nullable(
        _TRAINING,
        "Initial learning rate.",
        default=0.01,
        when_empty="0.01, or the value that optimizer=auto chooses",
        gt=0,
        le=1,
    )
    overrides: dict[str, Any] | None = nullable(
        _TRAINING, 'Any other Ultralytics training arguments, as JSON: {"mosaic": 0.5, "cos_lr": true}.'
    )
    on_loss_spike: Literal["warn", "stop", "roll back"] | None = nullable(
        _LOSS,
        "What to do when the loss jumps: warn in the log, stop the job, or roll back to an earlier state, "
        "lower the learning rate and continue with the next epoch.",
        when_empty="nothing",
    )
    loss_spike: float | None = nullable(
        _LOSS,
        "The loss has jumped if, in three consecutive batches, it exceeds this multiple of the largest loss "
        "of the previous 100 batches.",
        default=2,
        gt=1,
        le=1_000_000,
    )
    on_nan: Literal["stop", "roll back"] | None = nullable(
        _LOSS,
        "What to do when the loss is not a number (NaN or infinite).",
        when_empty="repeat the epoch as Ultralytics does, at most three times, then stop",
    )
    roll_back_states: int | None = nullable(
        _LOSS,
        "How many states to roll back: 1 returns to the start of the current epoch, 2 to the start of the "
        "previous one. Each state adds nearly the usual size of last.pt to that file.",
        default=NO_RULES.states,
        ge=1,
        le=5,
    )
    roll_back_lr: float | None = nullable(
        _LOSS, "Factor applied to the learning rate at each rollback.", default=NO_RULES.rate, gt=0, le=1
    )
    resume_from: str | None = nullable(
        _CONTINUING,
        "Job to continue from its last.pt as a new job, with the same data, model and arguments. "
        "To train for more epochs than that job planned, increase epochs.",
        pattern=JOB_ID,
    )
    publish_every: int = Field(
        1,
        ge=1,
        le=100_000,
        description="Number of epochs between uploads of the training state to S3; the final state is "
        "always uploaded.",
        json_schema_extra={"section": _CONTINUING, "type": ["integer", "null"]},
    )
    publish_seconds: float = Field(
        60,
        ge=10,
        le=86_400,
        description="Maximum seconds of training that may be lost: a state is also saved within an epoch "
        "once the last saved state is older than this.",
        json_schema_extra={"section": _CONTINUING, "type": ["number", "null"]},
    )
    hang_timeout: float | None = nullable(
        _CONTINUING,
        "Seconds without a finished batch after which training is killed and resumed.",
        when_empty="300, or 20 times the median batch time if that is longer",
        ge=10,
        le=86_400,
    )
    keep_local: bool = Field(
        False,
        description="Keep the local files after both checkpoints have been verified in S3.",
        json_schema_extra={"section": _CONTINUING, "type": ["boolean", "null"]},
    )

    @model_validator(mode="before")
    @classmethod
    def _normalize(cls, values: Any) -> Any:
        values = use_whole_numbers(drop_blanks(values, cls.model_fields), cls.model_fields)
        if not isinstance(values, dict):
            return values
        given = {
            name: value for name, value in values.items() if value is not None or name not in cls.model_fields
        }
        meant = update_outdated(given, cls.model_fields)
        if "device" in meant:
            meant["device"] = as_text(meant["device"])
        return meant

    @field_validator("dataset")
    @classmethod
    def _check_dataset(cls, dataset: str | None) -> str | None:
        try:
            parse_registered(dataset or "")
        except DatasetError as error:
            raise ValueError(str(error)) from None
        return dataset

    @field_validator("model")
    @classmethod
    def _check_model(cls, model: str | None) -> str | None:
        return model and ModelReference.parse(model).text

    @field_validator("batch")
    @classmethod
    def _check_batch(cls, batch: float | None) -> float | None:
        if batch is None or 0 < batch < 1 or (batch.is_integer() and batch not in {0, -0.0}):
            return batch
        raise ValueError(
            f"batch={batch} is neither a whole number of images, nor -1, nor a fraction between 0 and 1"
        )

    @field_validator("device")
    @classmethod
    def _check_device(cls, device: str | None) -> str | None:
        numbers = [int(number) for number in re.findall(r"\d+", device or "")]
        if len(set(numbers)) < len(numbers):
            raise ValueError(f"device={device!r} names a GPU twice; give each number once")
        return device

    @field_validator("overrides")
    @classmethod
    def _check_overrides(cls, overrides: dict[str, Any] | None) -> dict[str, Any] | None:
        check_overrides(overrides or {})
        check_no_files(overrides or {})
        return overrides or None
