"""Ultralytics' training datasets, with samples that depend only on seed, epoch and position."""

from __future__ import annotations

import logging
import math
import multiprocessing
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ultralytics.data.augment import Mosaic
from ultralytics.data.dataset import (
    ClassificationDataset,
    DepthDataset,
    PolygonSemanticDataset,
    SemanticDataset,
    YOLODataset,
)

from include.training.fast_transforms import find_transforms, speed_up
from include.training.randomness import OWN, derive_seed, shuffle_indices
from include.training.recent import RecentImages, Slot

if TYPE_CHECKING:
    from torch.utils.data import Dataset

    from include.training.recent import Image

log = logging.getLogger(__name__)

_WINDOW = 8
"""Number of recent batches from which mosaic partners are drawn, as in Ultralytics' own buffer."""

_PREFETCH = 4
"""Batches that each worker of Ultralytics' training loader prefetches."""

_LANES = (8, 4, 2, 1)
"""Possible distances between the batches from which a mosaic's partners come.

Training uses the largest distance for which an epoch has enough batches. The distance imitates Ultralytics,
which has 8 workers by default, so that the buffer of each worker holds every eighth batch. On a CPU or mps,
Ultralytics uses no workers, and the distance is 1.
"""


class _SeededSamples:
    """A mixin for training datasets whose samples are indexed by EpochOrder's numbers."""

    seed: int
    """The training argument `seed`."""
    is_shuffled: bool
    """Whether each epoch has a random order; otherwise, the samples are in the dataset's order."""

    def _seed_sample(self, number: int) -> tuple[int, int]:
        """Seed every generator for the sample, and return its epoch and its position in the epoch."""
        epoch, position = divmod(number, len(self))  # type: ignore[arg-type]
        own = derive_seed("sample", self.seed, epoch, position)
        OWN.seed(own)
        random.seed(own)  # for transforms that are not Ultralytics'
        np.random.seed(own & 0xFFFFFFFF)
        torch.default_generator.manual_seed(own)
        return epoch, position

    def _find_indices(self, epoch: int, positions: np.ndarray) -> np.ndarray:
        """Return the samples at these positions of the epoch."""
        order = shuffle_indices(len(self), self.seed, epoch) if self.is_shuffled else None  # type: ignore[arg-type]
        return positions if order is None else order[positions]


class SeededClassification(ClassificationDataset, _SeededSamples):
    """Images of one class each, indexed by EpochOrder's numbers."""

    def __getitem__(self, number: int) -> dict[str, Any]:
        epoch, position = self._seed_sample(number)
        return super().__getitem__(int(self._find_indices(epoch, np.array(position))))


class _Partners(list[int]):
    """The candidates for a mosaic's partners. Images that Ultralytics appends are ignored."""

    def append(self, _: int) -> None:
        return


@dataclass(frozen=True)
class _Window:
    """The samples that a batch's mosaics may use, and the slots of their images in the ring."""

    batch: int
    """Number of the last batch in the window, counted from the start of training."""
    rank: int
    """The GPU whose batches are meant, from 0."""
    partners: _Partners
    """Indices of the images in all batches of the window."""
    slots: dict[int, Slot]
    """For each of these indices, where the ring keeps the image."""


class SeededImages(YOLODataset, _SeededSamples):
    """Labelled images, indexed by EpochOrder's numbers.

    The partners of a mosaic come from its own batch and from earlier ones, including those of the previous
    epoch; with lanes=8, only from every eighth batch. Which images are still in memory affects only the
    speed.
    """

    max_buffer_length: float
    """Number of images in Ultralytics' own buffer; infinite, so that it evicts none."""
    longest = 1.0
    """Highest aspect ratio of the images that are kept in memory. Here, the longer side of each image is
    scaled to imgsz, so an image of any ratio fits."""

    def prepare(self, workers: int, rank: int, replicas: int, *, on_gpu: bool) -> None:
        """Replace YOLODataset's own buffer, for `workers` loader processes on each of `replicas` GPUs.

        `rank` is the number of this process's GPU, from 0.
        """
        self.rank, self.replicas = rank, replicas
        self.batches = math.ceil(len(self) / (self.batch_size * replicas))
        """Number of batches in an epoch."""
        possible = _LANES if on_gpu else (1,)
        self.lanes = next(lanes for lanes in possible if self.batches >= lanes * _WINDOW or lanes == 1)
        """Distance between the batches from which a mosaic's partners come."""
        self.window: _Window | None = None
        """The window of the last sample; None before the first sample."""
        self._own: int | None = None  # index of the sample's own image
        self.all_fit = False
        """Whether the ring has room for the whole dataset."""
        self.recent: RecentImages | None = None
        """The ring of decoded images; None if no mosaic needs it or there is no memory for it."""
        self.max_buffer_length = math.inf  # load_image below evicts images; YOLODataset must not
        speed_up(self.transforms)
        mosaics = [one for one in find_transforms(self.transforms) if isinstance(one, Mosaic)]
        for mosaic in mosaics:
            mosaic.buffer_enabled = True  # off with cache="ram", even if Ultralytics has dropped that cache
        if any(mosaic.p for mosaic in mosaics) and self.cache != "ram":
            self.recent = self._make_room(workers)

    def _make_room(self, workers: int) -> RecentImages | None:
        """Allocate memory for the images that mosaics may need, or for the whole dataset if it is smaller."""
        needed = self.lanes * (_WINDOW - 1) + 1
        prefetched = _PREFETCH * workers  # by workers that are ahead of the slowest one
        self.all_fit = len(self) <= (needed + prefetched) * self.batch_size
        side = max(self.imgsz) if isinstance(self.imgsz, (tuple, list)) else self.imgsz
        batches, size = (len(self), 1) if self.all_fit else (needed + prefetched, self.batch_size)
        if multiprocessing.get_start_method() != "fork":  # workers that are not forked would each get a copy
            return None
        try:
            return RecentImages(batches, size, math.ceil(side * math.sqrt(self.longest)), self.channels)
        except OSError as error:
            log.warning(
                "Not enough memory to keep decoded images (%s): mosaics will decode them again.",
                error.strerror,
            )
            return None

    def close_mosaic(self, hyp: Any) -> None:
        """Turn off mosaics, and free the images that are kept for them."""
        super().close_mosaic(hyp)
        speed_up(self.transforms)
        self.recent = None

    def __getitem__(self, number: int) -> dict[str, Any]:
        sample = self._build(number)
        if self.recent is not None and not self.recent.is_unchanged():
            recent, self.recent = self.recent, None  # images have since been overwritten: decode them all
            sample = self._build(number)
            self.recent = recent
        return sample

    def _build(self, number: int) -> dict[str, Any]:
        epoch, position = self._seed_sample(number)
        if self.recent is not None:
            self.recent.start_sample()
        self.buffer = self._find_window(epoch, position).partners
        self._own = int(self._find_indices(epoch, np.array(position)))
        sample: dict[str, Any] = super().__getitem__(self._own)
        return sample

    def load_image(self, i: int, *args: Any, **options: Any) -> Image:
        """Return an image from the ring of recent images, or read its file."""
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

    def _find_window(self, epoch: int, position: int) -> _Window:
        """Return the window that ends with the batch that contains this position."""
        step, rank = divmod(position, self.replicas)
        batch = epoch * self.batches + step // self.batch_size
        if self.window is None or (self.window.batch, self.window.rank) != (batch, rank):
            numbers = [batch - back * self.lanes for back in range(_WINDOW)]
            samples = {number: self._list_batch(number, rank) for number in numbers if number >= 0}
            slots = {
                index: Slot(index, 0) if self.all_fit else Slot(number, place)
                for number in sorted(samples)  # an image that occurs in two epochs gets its later slot
                for place, index in enumerate(samples[number])
                # If the GPUs cannot share an epoch evenly, it ends with repeated samples of other GPUs. Their
                # windows have no slots here, because the same slots hold this GPU's images.
                if self.all_fit or rank == self.rank
            }
            partners = _Partners(index for indices in samples.values() for index in indices)
            self.window = _Window(batch, rank, partners, slots)
        return self.window

    def _list_batch(self, number: int, rank: int) -> list[int]:
        """Return the samples of one GPU's batch; batches are counted from the start of training."""
        epoch, batch = divmod(number, self.batches)
        positions = (batch * self.batch_size + np.arange(self.batch_size)) * self.replicas + rank
        return self._find_indices(epoch, positions[positions < len(self)]).tolist()


class SeededMasks(SeededImages, SemanticDataset):
    """Images with a class for each pixel.

    Ultralytics keeps the masks of images that mosaics may use. Which masks are in memory does not affect the
    samples.
    """

    longest = 2.0
    """The aspect ratio of Cityscapes' images. Here, the shorter side is scaled to imgsz, and images with a
    greater ratio are not kept."""


class SeededPolygons(SeededImages, PolygonSemanticDataset):
    """Images with outlines, which are drawn as masks with a class for each pixel."""

    longest = SeededMasks.longest


class SeededDepths(SeededImages, DepthDataset):
    """Images with a distance for each pixel."""


SEEDED: dict[type[Dataset[Any]], type[_SeededSamples]] = {
    YOLODataset: SeededImages,
    SemanticDataset: SeededMasks,
    PolygonSemanticDataset: SeededPolygons,
    DepthDataset: SeededDepths,
    ClassificationDataset: SeededClassification,
}
"""For each dataset that Ultralytics trains on, the class that replaces it."""
