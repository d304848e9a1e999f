"""Training data without a history: every sample is a function of seed, epoch and position.

Ultralytics draws order, augmentation and mosaic partners from generators whose state depends on the number
of loader workers and on everything that was drawn since the start. Here each sample is seeded on its own, so
that an epoch is the same whether it is the hundredth of a run or the first after a resume, with any number of
workers, and however far they have prefetched.
"""

from __future__ import annotations

import math
import random
from collections import OrderedDict
from collections.abc import Iterator
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import RandomSampler, Sampler, SequentialSampler
from ultralytics.data.augment import Mosaic
from ultralytics.data.dataset import ClassificationDataset, YOLODataset

if TYPE_CHECKING:
    from ultralytics.data.build import InfiniteDataLoader

_WINDOW = 8
"""Mosaic partners come from so many batches, as in Ultralytics' own buffer."""

_LANES = (8, 4, 2, 1)
"""Partners come from every eighth batch, where an epoch is long enough: 8 is the default of `workers`.

On a CPU they come from every batch, because Ultralytics loads without workers there.
"""

_MOST_KEPT = 1000
"""Decoded images that a loader worker keeps at most, as in Ultralytics' own buffer."""


def seed_of(*place: int | str) -> int:
    """64 bits for a place such as (seed, epoch, position): far apart for places that are close."""
    return int.from_bytes(blake2b(repr(place).encode(), digest_size=8).digest())


@lru_cache(maxsize=2)
def shuffled(samples: int, seed: int, epoch: int) -> np.ndarray:
    """The order of `samples` indices in `epoch`, shape (samples,)."""
    generator = torch.Generator().manual_seed(seed_of("order", seed, epoch))
    return torch.randperm(samples, generator=generator).numpy()


class EpochOrder(Sampler[int]):
    """Yields `epoch * samples + position` for the positions of one epoch, and of the next one the next time.

    With several replicas (GPUs), each gets every replicas-th position, and the first ones once more where
    they do not divide evenly, as in torch's DistributedSampler.
    """

    def __init__(self, samples: int, rank: int = 0, replicas: int = 1) -> None:
        self.samples = samples
        self.rank, self.replicas = rank, replicas
        self.next_epoch = 0

    def __iter__(self) -> Iterator[int]:
        first = self.next_epoch * self.samples
        self.next_epoch += 1  # a loader's workers ask for the next epoch before this one is over
        for position in range(self.rank, len(self) * self.replicas, self.replicas):
            yield first + position % self.samples

    def __len__(self) -> int:
        return math.ceil(self.samples / self.replicas)


class _Seeded:
    """What a training data set needs to take its samples by EpochOrder's numbers."""

    seed: int
    shuffle: bool

    def _sample(self, number: int) -> tuple[int, int]:
        """Seed every generator for the sample, and return its epoch and its position in it."""
        epoch, position = divmod(number, len(self))  # type: ignore[arg-type]
        own = seed_of("sample", self.seed, epoch, position)
        random.seed(own)
        np.random.seed(own & 0xFFFFFFFF)
        torch.default_generator.manual_seed(own)
        return epoch, position

    def _indices(self, epoch: int, positions: np.ndarray) -> np.ndarray:
        """The samples at these positions of the epoch."""
        order = shuffled(len(self), self.seed, epoch) if self.shuffle else None  # type: ignore[arg-type]
        return positions if order is None else order[positions]


class SeededClassification(ClassificationDataset, _Seeded):  # type: ignore[misc]
    """Images of one class each, by EpochOrder's numbers."""

    def __getitem__(self, number: int) -> dict[str, Any]:
        epoch, position = self._sample(number)
        return super().__getitem__(int(self._indices(epoch, np.array(position))))  # type: ignore[no-any-return]


class _Partners(list[int]):
    """Where a mosaic looks for partners. Ultralytics appends whatever is read: here that changes nothing."""

    def append(self, _: int) -> None:
        return


class SeededImages(YOLODataset, _Seeded):  # type: ignore[misc]
    """Labelled images, by EpochOrder's numbers.

    The partners of a mosaic come from the latest batches, those of the epoch before included; with lanes from
    every lanes-th batch back from its own, so that with a usual number of workers each finds them among the
    images that it has decoded itself, as with Ultralytics' own buffer. Which ones are still in memory changes
    the time that is needed and nothing else.
    """

    max_buffer_length: float

    def prepare(self, workers: int, replicas: int, most_lanes: int) -> None:
        """Take over from YOLODataset's own buffer, for so many workers on each of so many GPUs."""
        self.replicas = replicas
        self.batches = math.ceil(len(self) / (self.batch_size * replicas))
        possible = (lanes for lanes in _LANES if lanes <= most_lanes)
        self.lanes = next(lanes for lanes in possible if self.batches >= lanes * _WINDOW or lanes == 1)
        self.window: tuple[tuple[int, int], _Partners] | None = None
        self.kept: OrderedDict[int, None] = OrderedDict()
        share = max(1, self.lanes // max(1, workers))
        self.most_kept = min(_MOST_KEPT, self.max_buffer_length * share)
        self.max_buffer_length = math.inf  # not YOLODataset evicts, but load_image below
        for mosaic in _mosaics(self.transforms):
            mosaic.buffer_enabled = True  # off with cache="ram", which is given up where memory is short

    def __getitem__(self, number: int) -> dict[str, Any]:
        epoch, position = self._sample(number)
        self.buffer = self._partners(epoch, position)
        index = int(self._indices(epoch, np.array(position)))
        if index in self.kept:
            self.kept.move_to_end(index)  # it will be a partner from now on
        return super().__getitem__(index)  # type: ignore[no-any-return]

    def load_image(self, i: int, *args: Any, **options: Any) -> Any:
        """Read an image, or take it from those that are kept; the one whose own turn is longest ago goes."""
        image = super().load_image(i, *args, **options)
        if self.augment and self.cache != "ram" and i not in self.kept:
            self.kept[i] = None
            if len(self.kept) > self.most_kept:
                oldest, _ = self.kept.popitem(last=False)
                self.ims[oldest] = self.im_hw0[oldest] = self.im_hw[oldest] = None
        return image

    def _partners(self, epoch: int, position: int) -> _Partners:
        """The samples of the window that ends with the position's own batch."""
        step, rank = divmod(position, self.replicas)
        batch = epoch * self.batches + step // self.batch_size
        if self.window is None or self.window[0] != (batch, rank):
            window = [batch - back * self.lanes for back in range(_WINDOW)]
            samples = [index for each in window if each >= 0 for index in self._batch(each, rank)]
            self.window = (batch, rank), _Partners(samples)
        return self.window[1]

    def _batch(self, number: int, rank: int) -> list[int]:
        """The samples of one GPU's batch, counted from the beginning of the training."""
        epoch, batch = divmod(number, self.batches)
        positions = (batch * self.batch_size + np.arange(self.batch_size)) * self.replicas + rank
        return self._indices(epoch, positions[positions < len(self)]).tolist()  # type: ignore[no-any-return]


def seed_samples(loader: InfiniteDataLoader, seed: int, rank: int, replicas: int, on_gpu: bool) -> EpochOrder:
    """Make `loader` yield samples that depend on seed, epoch and position alone; returns what orders them."""
    data = loader.dataset
    seeded = SeededImages if isinstance(data, YOLODataset) else SeededClassification
    data.__class__ = (
        seeded  # a copy would double what the data set holds: labels, and images with cache="ram"
    )
    data.seed, data.shuffle = seed, not isinstance(loader.batch_sampler.sampler.sampler, SequentialSampler)
    if isinstance(data, SeededImages):
        data.prepare(loader.num_workers, replicas, most_lanes=_LANES[0] if on_gpu else 1)
    order = EpochOrder(len(data), rank, replicas)
    loader.batch_sampler.sampler.sampler = order
    return order


def fix_order(loader: InfiniteDataLoader, seed: int) -> None:
    """Make a loader that shuffles (validation of classify does) do so in the same way every time."""
    sampler = loader.batch_sampler.sampler
    if isinstance(sampler.sampler, RandomSampler):
        sampler.sampler = shuffled(len(loader.dataset), seed, 0).tolist()


def _mosaics(transform: Any) -> Iterator[Mosaic]:
    if isinstance(transform, Mosaic):
        yield transform
    inner = [*getattr(transform, "transforms", ()), getattr(transform, "pre_transform", None)]
    for one in inner:
        if one is not None:
            yield from _mosaics(one)
