"""Copies a training run's state to the host, so that training continues while the copy is written to disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn


def copy_to_host(state: Any, device: torch.device) -> tuple[Any, Callable[[], None]]:
    """Copy each tensor in nested containers and modules; return the copy, and a function that waits for it.

    Changes that training makes after this call are not in the copy. On a GPU, this only enqueues the copies,
    on a separate stream and into pinned memory: the GPU's next work waits for them, but this thread does not.
    On mps, tensors stay on the device. Modules in `state` are moved, not copied, so nothing else may use
    them. A tensor that occurs several times in `state` is copied once.
    """
    if device.type != "cuda":
        return _Copier(torch.Tensor.clone, nn.Module.cpu).copy_value(state), lambda: None
    training = torch.cuda.current_stream(device)
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(training)
    with torch.cuda.stream(stream):
        copy = _Copier(_copy_to_pinned_memory, _move).copy_value(state)
    # Memory that is freed from now on is reused only by the training stream, which waits for the copy.
    training.wait_stream(stream)
    return copy, stream.record_event().synchronize


def _move(module: nn.Module) -> nn.Module:
    return module._apply(_copy_to_pinned_memory)  # type: ignore[no-untyped-call, no-any-return]


def _copy_to_pinned_memory(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.device.type != "cuda":
        return tensor.clone()
    return torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor, non_blocking=True)


class _Copier:
    def __init__(
        self,
        copy: Callable[[torch.Tensor], torch.Tensor],
        move: Callable[[nn.Module], nn.Module],
    ) -> None:
        self._copy, self._move = copy, move
        self._copies: dict[tuple[object, ...], torch.Tensor] = {}

    def copy_value(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return self._copy_tensor(value.detach())
        if isinstance(value, nn.Module):
            return self._move(value)
        if isinstance(value, Mapping):
            return {key: self.copy_value(each) for key, each in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(self.copy_value(each) for each in value)
        return value

    def _copy_tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.numel() == 0:
            return self._copy(tensor)
        key = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if key not in self._copies:
            self._copies[key] = self._copy(tensor)
        return self._copies[key]
