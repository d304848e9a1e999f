"""Limits the size of models, because an untrusted file may describe a model of any size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch.nn.modules import module as registration

from include.training.contract import TrainingError

if TYPE_CHECKING:
    import torch

MAX_PARAMETERS = 500_000_000
"""Maximum number of parameters of a model trained from scratch; YOLOv5x6u, the largest, has about 155
million."""

MORE_PARAMETERS = 50_000_000
"""A model that starts from weights may have twice as many parameters as the weights, and this many more,
because the data may have more classes."""

MAX_PARTS = 50_000
"""Maximum number of layers, including nested ones; YOLOv9e has 2,500."""


@contextmanager
def limit_model_size(weights: torch.nn.Module | None) -> Iterator[None]:
    """Stop the construction of a model before it fills the memory. Raises TrainingError.

    PyTorch announces each parameter when its memory is reserved but not yet used. `weights` is the model that
    training starts from, if any.
    """
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
