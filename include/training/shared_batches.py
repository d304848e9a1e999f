"""Makes loader workers report that shared memory is full.

A worker hands each batch over through a queue. The queue's own thread moves the batch to shared memory. If
that is full, the thread only prints the error, the batch is lost, and the trainer waits for it for ever. So
here a worker moves each batch to shared memory before it puts the batch into the queue. This takes no longer,
because the queue's thread finds it there, and PyTorch raises the error in the trainer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import get_worker_info
from ultralytics.data.build import InfiniteDataLoader


def share_batches() -> None:
    """Make all of Ultralytics' loaders in this process do so."""
    get_iterator = InfiniteDataLoader._get_iterator

    def share_and_get_iterator(loader: InfiniteDataLoader) -> Any:
        if not isinstance(loader.collate_fn, _Sharing):
            loader.collate_fn = _Sharing(loader.collate_fn)
        return get_iterator(loader)

    InfiniteDataLoader._get_iterator = share_and_get_iterator


@dataclass(frozen=True)
class _Sharing:
    """Collates samples into a batch; in a loader worker, also moves the batch to shared memory."""

    collate: Callable[[list[Any]], Any]
    """The loader's own function, which returns a dictionary."""

    def __call__(self, samples: list[Any]) -> Any:
        batch = self.collate(samples)
        if get_worker_info() is not None:
            for value in batch.values():
                if isinstance(value, torch.Tensor):
                    value.share_memory_()  # type: ignore[no-untyped-call]
        return batch
