"""Training data without a history: every sample is a function of seed, epoch and position.

Ultralytics draws order, augmentation and mosaic partners from generators whose state depends on the number
of loader workers and on everything that was drawn since the start. Here each sample is seeded on its own, so
that an epoch is the same whether it is the hundredth of a run or the first after a resume, with any number of
workers, and however far they have prefetched.
"""

from __future__ import annotations

import logging
import math
import multiprocessing
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import ultralytics.engine.trainer
from torch.utils.data import RandomSampler, Sampler, SequentialSampler
from ultralytics.data.augment import Mosaic
from ultralytics.data.build import InfiniteDataLoader
from ultralytics.data.dataset import ClassificationDataset, YOLODataset

from include.training.recent import RecentImages, Slot

if TYPE_CHECKING:
    from include.training.recent import Image

log = logging.getLogger(__name__)

_WINDOW = 8
"""Mosaic partners come from so many batches, as in Ultralytics' own buffer."""

_PREFETCH = 4
"""Batches that each worker of Ultralytics' training loader prepares ahead."""

_LANES = (8, 4, 2, 1)
"""Partners come from every eighth batch, where an epoch is long enough: those are what a worker of eight,
Ultralytics' default, has in its buffer. On a CPU they come from every batch: there it has no workers.
"""


def seed_of(*place: int | str) -> int:
    """64 bits for a place such as (seed, epoch, position): far apart for places that are close."""
    return int.from_bytes(blake2b(repr(place).encode(), digest_size=8).digest())


@lru_cache(maxsize=2)
def shuffled(samples: int, seed: int, epoch: int) -> np.ndarray:
    """Return the order of `samples` indices in `epoch`, shape (samples,)."""
    generator = torch.Generator().manual_seed(seed_of("order", seed, epoch))
    return torch.randperm(samples, generator=generator).numpy()


class EpochOrder(Sampler[int]):
    """Yields `epoch * samples + position` for the positions of one epoch, and of the next one the next time.

    `begin_at` changes where the next time begins.

    With several replicas (GPUs), each gets every replicas-th position, and the first ones once more where
    they do not divide evenly, as in torch's DistributedSampler.
    """

    def __init__(self, samples: int, rank: int = 0, replicas: int = 1) -> None:
        self.samples = samples
        self.rank, self.replicas = rank, replicas
        self._next = (0, 0)

    def begin_at(self, epoch: int, sample: int = 0) -> None:
        """Yield that epoch the next time, without this replica's samples before the `sample`-th."""
        self._next = epoch, sample

    def __iter__(self) -> Iterator[int]:
        epoch, sample = self._next
        self._next = epoch + 1, 0  # a loader's workers ask for the next epoch before this one is over
        for position in range(self.rank, len(self) * self.replicas, self.replicas)[sample:]:
            yield epoch * self.samples + position % self.samples

    def __len__(self) -> int:
        return math.ceil(self.samples / self.replicas)


class FromBatch(InfiniteDataLoader):  # type: ignore[misc]
    """Delivers an epoch from its `first_batch` on, when its sampler does, until `is_cut`.

    Its length stays that of a whole epoch, and Ultralytics' loop counts the batches from that one: it
    enumerates the loader with `counted`.
    """

    first_batch = 0
    is_cut = False
    iterator: Any

    def __iter__(self) -> Iterator[Any]:
        if self.iterator is None:
            self.iterator = self._get_iterator()
        for _ in range(self.first_batch, len(self)):
            if self.is_cut:
                return
            yield next(self.iterator)


def counted(values: Iterable[Any], start: int = 0) -> Iterator[tuple[int, Any]]:
    """Enumerate, a FromBatch from its first batch on."""
    return enumerate(values, values.first_batch if isinstance(values, FromBatch) else start)


ultralytics.engine.trainer.enumerate = counted  # the loop's count drives warm-up and running losses


class _Seeded:
    """What a training dataset needs to take its samples by EpochOrder's numbers."""

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
        """Return the samples at these positions of the epoch."""
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


@dataclass(frozen=True)
class _Window:
    """The samples that a batch's mosaics may take, and where each lies while it is recent."""

    batch: int
    rank: int
    partners: _Partners
    slots: dict[int, Slot]


class SeededImages(YOLODataset, _Seeded):  # type: ignore[misc]
    """Labelled images, by EpochOrder's numbers.

    The partners of a mosaic come from the latest batches, those of the epoch before included; with lanes from
    every lanes-th batch back from its own. Which of them are still in memory changes the time that is needed
    and nothing else.
    """

    max_buffer_length: float

    def prepare(self, workers: int, replicas: int, most_lanes: int) -> None:
        """Take over from YOLODataset's own buffer, for so many workers on each of so many GPUs."""
        self.replicas = replicas
        self.batches = math.ceil(len(self) / (self.batch_size * replicas))
        possible = (lanes for lanes in _LANES if lanes <= most_lanes)
        self.lanes = next(lanes for lanes in possible if self.batches >= lanes * _WINDOW or lanes == 1)
        self.window: _Window | None = None
        self._own: int | None = None
        self.all_fit = False
        self.recent: RecentImages | None = None
        self.max_buffer_length = math.inf  # not YOLODataset evicts, but load_image below
        mosaics = list(_mosaics(self.transforms))
        for mosaic in mosaics:
            mosaic.buffer_enabled = True  # off with cache="ram", which is given up where memory is short
        if any(mosaic.p for mosaic in mosaics) and self.cache != "ram":
            self.recent = self._make_room(workers)

    def _make_room(self, workers: int) -> RecentImages | None:
        """Make room for the images that mosaics may ask for, or for all where those are fewer."""
        asked_for = self.lanes * (_WINDOW - 1) + 1
        begun = _PREFETCH * workers  # by workers that are ahead of the slowest one
        self.all_fit = len(self) <= (asked_for + begun) * self.batch_size
        side = max(self.imgsz) if isinstance(self.imgsz, (tuple, list)) else self.imgsz
        batches, size = (len(self), 1) if self.all_fit else (asked_for + begun, self.batch_size)
        if multiprocessing.get_start_method() != "fork":  # other workers would each get a copy
            return None
        try:
            return RecentImages(batches, size, side, self.channels)
        except OSError as error:
            log.warning("No memory to keep decoded images in (%s): mosaics decode them anew.", error.strerror)
            return None

    def close_mosaic(self, hyp: Any) -> None:
        """Do without mosaics from now on, and without the images that are kept for them."""
        super().close_mosaic(hyp)
        self.recent = None

    def __getitem__(self, number: int) -> dict[str, Any]:
        sample = self._build(number)
        if self.recent is not None and not self.recent.is_unchanged():
            recent, self.recent = self.recent, None  # replaced while it was read: decode all of it
            sample = self._build(number)
            self.recent = recent
        return sample

    def _build(self, number: int) -> dict[str, Any]:
        epoch, position = self._sample(number)
        if self.recent is not None:
            self.recent.begin_sample()
        self.buffer = self._window_of(epoch, position).partners
        self._own = int(self._indices(epoch, np.array(position)))
        return super().__getitem__(self._own)  # type: ignore[no-any-return]

    def load_image(self, i: int, *args: Any, **options: Any) -> Image:
        """Read an image, or take it from the recent ones."""
        if not self.augment or self.cache == "ram":
            image: Image = super().load_image(i, *args, **options)
            return image
        slot = self.window.slots.get(i) if self.window and self.recent else None
        if self.recent is not None and slot is not None and (found := self.recent.get(slot)):
            pixels, original, shape = found
            return (pixels.copy() if i == self._own else pixels), original, shape
        image = super().load_image(i, *args, **options)
        self.ims[i] = self.im_hw0[i] = self.im_hw[i] = None
        if self.recent is not None and slot is not None:
            self.recent.put(slot, image)
        return image

    def _window_of(self, epoch: int, position: int) -> _Window:
        """Return the window that ends with the position's own batch."""
        step, rank = divmod(position, self.replicas)
        batch = epoch * self.batches + step // self.batch_size
        if self.window is None or (self.window.batch, self.window.rank) != (batch, rank):
            numbers = [batch - back * self.lanes for back in range(_WINDOW)]
            samples = {number: self._batch(number, rank) for number in numbers if number >= 0}
            slots = {
                index: Slot(index, 0) if self.all_fit else Slot(number, place)
                for number in sorted(samples)  # an image of two epochs lies where it was later
                for place, index in enumerate(samples[number])
            }
            partners = _Partners(index for indices in samples.values() for index in indices)
            self.window = _Window(batch, rank, partners, slots)
        return self.window

    def _batch(self, number: int, rank: int) -> list[int]:
        """Return the samples of one GPU's batch, counted from the beginning of the training."""
        epoch, batch = divmod(number, self.batches)
        positions = (batch * self.batch_size + np.arange(self.batch_size)) * self.replicas + rank
        return self._indices(epoch, positions[positions < len(self)]).tolist()  # type: ignore[no-any-return]


def seed_samples(loader: InfiniteDataLoader, seed: int, rank: int, replicas: int, on_gpu: bool) -> EpochOrder:
    """Make `loader` yield samples that depend on seed, epoch and position alone; returns what orders them."""
    data = loader.dataset
    seeded = SeededImages if isinstance(data, YOLODataset) else SeededClassification
    data.__class__ = seeded  # a copy would double what the dataset holds: labels, and images with cache="ram"
    data.seed, data.shuffle = seed, not isinstance(loader.batch_sampler.sampler.sampler, SequentialSampler)
    if isinstance(data, SeededImages):
        data.prepare(loader.num_workers, replicas, most_lanes=_LANES[0] if on_gpu else 1)
    loader.__class__ = FromBatch
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
