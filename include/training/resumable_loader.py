"""The loader of a training run: its samples are seeded, and it can begin in the middle of an epoch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import ultralytics.engine.trainer
from torch.utils.data import RandomSampler, SequentialSampler
from ultralytics.data.build import InfiniteDataLoader

from include.training.randomness import EpochOrder, isolate_generator, shuffle_indices
from include.training.seeded_datasets import SEEDED, SeededImages


class ResumableLoader(InfiniteDataLoader):
    """Delivers an epoch's batches, beginning with `first_batch`, until `is_cut` is set.

    The sampler must be set to begin there, too. The loader's length remains that of a complete epoch.
    Ultralytics' loop counts batches from `first_batch`, because this module replaces `enumerate` in its
    trainer with `enumerate_batches`.
    """

    first_batch = 0
    """Number of the epoch's first batch that is delivered, from 0; set for each epoch."""
    is_cut = False
    """Whether to deliver no more batches of this epoch."""
    iterator: Any
    """PyTorch's iterator, which delivers one epoch after another; None until the first epoch begins."""

    def __iter__(self) -> Iterator[Any]:
        if self.iterator is None:
            self.iterator = self._get_iterator()
        for _ in range(self.first_batch, len(self)):
            if self.is_cut:
                return
            yield next(self.iterator)


def enumerate_batches(values: Iterable[Any], start: int = 0) -> Iterator[tuple[int, Any]]:
    """Enumerate `values`; the count for a ResumableLoader starts at its `first_batch`."""
    return enumerate(values, values.first_batch if isinstance(values, ResumableLoader) else start)


ultralytics.engine.trainer.enumerate = enumerate_batches  # the loop's count drives warm-up and running losses


def seed_samples(loader: InfiniteDataLoader, seed: int, rank: int, replicas: int, on_gpu: bool) -> EpochOrder:
    """Make `loader` yield samples that depend only on seed, epoch and position; return its sampler."""
    isolate_generator()
    data = loader.dataset
    # Not a copy, which would double the memory for labels and, with cache="ram", for images.
    data.__class__ = SEEDED[type(data)]
    data.seed = seed
    data.is_shuffled = not isinstance(loader.batch_sampler.sampler.sampler, SequentialSampler)
    if isinstance(data, SeededImages):
        data.prepare(loader.num_workers, rank, replicas, on_gpu=on_gpu)
    loader.__class__ = ResumableLoader
    order = EpochOrder(len(data), rank, replicas)
    loader.batch_sampler.sampler.sampler = order
    return order


def fix_order(loader: InfiniteDataLoader, seed: int) -> None:
    """Make a loader that shuffles (as in the validation of classify) use the same order every time."""
    sampler = loader.batch_sampler.sampler
    if isinstance(sampler.sampler, RandomSampler):
        sampler.sampler = shuffle_indices(len(loader.dataset), seed, 0).tolist()
