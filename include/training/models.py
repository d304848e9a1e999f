"""The model that a training run starts from: finds it, and limits its size.

It is a local file or an architecture of Ultralytics. An untrusted file may describe a model of any size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.checkpoints.inspection.architecture import check_architecture
from include.checkpoints.inspection.errors import InspectionError
from include.checkpoints.inspection.inspect import inspect_file
from include.training.architectures import find_default_architecture, is_architecture, list_file_names
from include.training.arguments import FILES
from include.training.contract import NotResumable, TrainingError
from include.training.loading import load_inspected

if TYPE_CHECKING:
    import torch

    from include.ultralytics_tasks import Task

MAX_PARAMETERS = 500_000_000
"""Maximum number of parameters of a model trained from scratch; YOLOv5x6u, the largest, has about 155
million."""

MORE_PARAMETERS = 50_000_000
"""A model that starts from weights may have twice as many parameters as the weights, plus this number: the
data may have more classes."""

MAX_PARTS = 50_000
"""Maximum number of layers, including nested ones; YOLOv9e has 2,500."""


def resolve_model(model: str, task: Task) -> str:
    """Return Ultralytics' `model`: the path of a .pt to start from, or a YAML to train from scratch.

    Raises TrainingError for a model that is not on this machine, cannot be loaded safely, or is for another
    task.
    """
    path = Path(model)
    if path.suffix == ".pt":
        source, built_for = model, _read_task_of_weights("model", path)
    else:
        source = model if path.suffix in {".yaml", ".yml"} else f"{model}.yaml"
        built_for = _guess_task_of_architecture(model, source)
    if built_for != task:
        raise TrainingError(
            f"model={model} is a model for {built_for}, but task={task}; give task={built_for}, or a model "
            f"for {task} such as {find_default_architecture(task)}"
        )
    return source


def check_weights_arguments(arguments: Mapping[str, object]) -> None:
    """Check that the files named by `pretrained` and `distill_model` load safely. Raises TrainingError."""
    for name in FILES:
        value = arguments.get(name)
        if isinstance(value, str):
            _read_task_of_weights(name, Path(value))


def _refuse_shadowed(model: str) -> None:
    """Refuse a shipped architecture if Ultralytics would use a file in the working directory instead."""
    if not is_architecture(model):
        return
    for name in list_file_names(model):
        if Path(name).exists():
            raise TrainingError(
                f"model={model} is an architecture of Ultralytics, but {Path(name).resolve()} would be used "
                f"instead; remove that file, or give ./{name} if you mean the file"
            )


def _read_task_of_weights(argument: str, path: Path) -> str:
    try:
        load_inspected(path)
        return inspect_file(path).task
    except NotResumable as error:
        raise TrainingError(
            f"{argument}={path} cannot be used: {error}. Nothing is ever downloaded"
        ) from error


def _guess_task_of_architecture(model: str, yaml: str) -> str:
    from ultralytics.nn.tasks import guess_model_task, yaml_model_load

    unknown = TrainingError(
        f"model={model} is neither a file on this machine nor an architecture that Ultralytics knows; give a "
        "name such as yolo11n, a YAML, or the path of a .pt (nothing is ever downloaded)"
    )
    if "://" in model:
        raise unknown
    _refuse_shadowed(model)
    try:
        architecture = yaml_model_load(yaml)
    except (OSError, AssertionError) as error:
        raise unknown from error
    except ValueError:
        # Not chained, because Ultralytics' message quotes the file, and that may be any file.
        raise TrainingError(f"model={model} is not valid YAML; correct the file") from None
    if "head" not in architecture:
        raise TrainingError(
            f"model={model} does not describe a model: it has no head; is it a dataset's YAML?"
        )
    try:
        check_architecture(architecture)
    except InspectionError as error:
        raise TrainingError(f"model={model} {error}") from None
    return str(guess_model_task(architecture))


@contextmanager
def limit_model_size(weights: torch.nn.Module | None) -> Iterator[None]:
    """Stop the construction of a model before it fills the memory. Raises TrainingError.

    PyTorch announces each parameter when its memory is reserved but not yet used. `weights` is the model that
    training starts from, if any.
    """
    from torch.nn.modules import module as registration

    known = None if weights is None else sum(each.numel() for each in weights.parameters())
    limit = MAX_PARAMETERS if known is None else 2 * known + MORE_PARAMETERS
    parameters = parts = 0

    def count_parameter(_module: Any, _name: str, parameter: torch.nn.Parameter) -> None:
        nonlocal parameters
        parameters += parameter.numel()
        if parameters > limit:
            raise TrainingError(
                f"The model's description asks for more than {limit:,} parameters"
                + ("" if known is None else f", but the initial weights have {known:,}")
                + "; correct its YAML, or give another model"
            )

    def count_part(*_: Any) -> None:
        nonlocal parts
        parts += 1
        if parts > MAX_PARTS:
            raise TrainingError(
                f"The model's description asks for more than {MAX_PARTS:,} layers; correct its YAML"
            )

    hooks = [
        registration.register_module_parameter_registration_hook(count_parameter),
        registration.register_module_module_registration_hook(count_part),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
