"""Decoded images that all workers of a loader share, so that each image is decoded about once per epoch.

The other images of a mosaic come from recent batches, which other workers have decoded. The images are in
anonymous memory that the workers inherit, so the size of /dev/shm does not matter. They form a ring of
batches: a new batch replaces the oldest one. If memory is short, the ring is small, and the oldest batch may
still be needed. So a writer locks the slot, and a reader checks after reading whether the slot was
overwritten. If it was, the reader builds the sample again.

This relies on writes being visible in order, as on x86. On other processors, each worker has its own ring.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import platform
import tempfile
from dataclasses import dataclass

import numpy as np

from include.training.memory_limit import read_memory_limit

MOST_IMAGES = 8000
_SHARE_OF_MEMORY = 0.25
"""A ring has at most MOST_IMAGES images, and the rings of all ranks together use at most this share of the
memory of the machine or container. Even so, each ring has room for at least one batch."""

_FREE = 0
_TAG, _VERSION, _SHAPE, _ORIGINAL = 0, 1, slice(2, 4), slice(4, 6)
_HEAD = 6

Image = tuple[np.ndarray, tuple[int, int], tuple[int, int]]
"""The result of Ultralytics' load_image: the pixels, and (height, width) of the file and of the pixels."""


@dataclass(frozen=True)
class Slot:
    """The place of an image in the ring while its batch is recent."""

    batch: int
    """Number of the batch, counted from the start of training. If there is room for all images, each image
    counts as a batch, and this is the image's index."""
    position: int
    """Position of the image within the batch."""


class RecentImages:
    """The ring of recent images, shared by the process that creates it and its forked children."""

    def __init__(self, batches: int, batch_size: int, side: int, channels: int) -> None:
        self._pixels_size = side * side * channels
        share = _SHARE_OF_MEMORY / int(os.environ.get("WORLD_SIZE") or 1)  # all ranks are on this machine
        fitting = int(read_memory_limit() * share) // self._pixels_size
        self._batch_size, self._channels = batch_size, channels
        self._batches = max(1, min(batches, min(MOST_IMAGES, fitting) // batch_size))
        images = self._batches * batch_size
        self._heads = np.frombuffer(_allocate(images * _HEAD * 8), np.int64).reshape(images, _HEAD)
        self._pixels = np.frombuffer(_allocate(images * self._pixels_size), np.uint8)
        self._taken: list[tuple[int, int]] = []
        # One byte for each place in the ring. When a worker is killed, the kernel releases its locks.
        self._locks = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the ring exists

    def get(self, slot: Slot) -> Image | None:
        """Return the image, with read-only pixels, or None if the ring does not have it."""
        place, tag = self._locate(slot)
        head = self._heads[place]
        version = int(head[_VERSION])  # first, so that a write that starts now is noticed
        if head[_TAG] != tag:
            return None
        self._taken.append((place, version))
        height, width = (int(length) for length in head[_SHAPE])
        begin = place * self._pixels_size
        pixels = self._pixels[begin : begin + height * width * self._channels]
        pixels = pixels.reshape(height, width, self._channels)
        pixels.flags.writeable = False
        original = int(head[_ORIGINAL][0]), int(head[_ORIGINAL][1])
        return pixels, original, (height, width)

    def put(self, slot: Slot, image: Image) -> None:
        """Keep a copy of the image if it fits into a slot."""
        pixels, original, shape = image
        if pixels.dtype != np.uint8 or pixels.size > self._pixels_size or pixels.shape[2] != self._channels:
            return
        place, tag = self._locate(slot)
        head = self._heads[place]
        fcntl.lockf(self._locks, fcntl.LOCK_EX, 1, place)
        try:
            if head[_TAG] == tag:  # another worker was faster
                return
            head[_TAG] = _FREE
            head[_VERSION] += 1
            begin = place * self._pixels_size
            self._pixels[begin : begin + pixels.size] = pixels.reshape(-1)
            head[_SHAPE], head[_ORIGINAL] = shape, original
            head[_TAG] = tag  # last, so that a reader that sees the tag also sees the pixels
        finally:
            fcntl.lockf(self._locks, fcntl.LOCK_UN, 1, place)

    def start_sample(self) -> None:
        """Forget which images the previous sample used."""
        self._taken.clear()

    def is_unchanged(self) -> bool:
        """Return whether none of the images that this sample used has been overwritten."""
        return all(self._heads[place, _VERSION] == version for place, version in self._taken)

    def _locate(self, slot: Slot) -> tuple[int, int]:
        return slot.batch % self._batches * self._batch_size + slot.position, slot.batch + 1


def _allocate(size: int) -> mmap.mmap:
    in_order = platform.machine() in {"x86_64", "AMD64"}
    return mmap.mmap(-1, size, mmap.MAP_ANONYMOUS | (mmap.MAP_SHARED if in_order else mmap.MAP_PRIVATE))
