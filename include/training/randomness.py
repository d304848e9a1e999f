"""Training data without a history: every sample is a function of seed, epoch and position.

Ultralytics draws order, augmentation and mosaic partners from generators whose state depends on the number of
loader workers and on everything drawn since the start. Here each sample is seeded separately. So an epoch is
the same whether it is the hundredth of a run or the first after a resume, with any number of workers, and
however far they have prefetched. This module numbers and seeds the samples; seeded_datasets.py builds them,
and resumable_loader.py delivers them in batches.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Iterator
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import Sampler

if TYPE_CHECKING:
    import numpy as np


class _OwnRandom(random.Random):  # noqa: S311 - no secret depends on it
    """Replaces the module `random`: it has the same functions, which draw from this generator."""

    def __getattr__(self, name: str) -> Any:
        return getattr(random, name)  # the module's classes


OWN = _OwnRandom()
"""The generator of the modules that `isolate_generator` has changed."""

_DRAWING = ("ultralytics.data.", "ultralytics.models.")


def isolate_generator() -> None:
    """Make the loaded data and model modules of Ultralytics draw from OWN, not Python's global generator.

    Other threads of the process draw from the global generator, too: botocore, for example, before it retries
    a request. On a CPU, Ultralytics builds samples in this process, so a draw by another thread in the middle
    of a sample would change the weights. NumPy's global generator, from which the modules also draw, can stay
    shared: it is seeded again for each sample.
    """
    for name, module in list(sys.modules.items()):
        if name.startswith(_DRAWING) and getattr(module, "random", None) is random:
            module.random = OWN  # type: ignore[attr-defined]


def derive_seed(*place: int | str) -> int:
    """Derive a 64-bit seed from values like (seed, epoch, position); nearby values get unrelated seeds."""
    return int.from_bytes(blake2b(repr(place).encode(), digest_size=8).digest())


@lru_cache(maxsize=2)
def shuffle_indices(samples: int, seed: int, epoch: int) -> np.ndarray:
    """Return a permutation of `samples` indices for `epoch`, shape (samples,)."""
    generator = torch.Generator().manual_seed(derive_seed("order", seed, epoch))
    return torch.randperm(samples, generator=generator).numpy()


class EpochOrder(Sampler[int]):
    """Yields `epoch * samples + position` for each position of an epoch.

    Each new pass over the sampler yields the next epoch; `start_at` sets where the next pass starts.

    With several replicas (GPUs), each gets every replicas-th position; if the positions do not divide evenly,
    the first ones are repeated, as in torch's DistributedSampler.
    """

    def __init__(self, samples: int, rank: int, replicas: int) -> None:
        self.samples = samples
        self.rank, self.replicas = rank, replicas
        self._next = (0, 0)

    def start_at(self, epoch: int, sample: int = 0) -> None:
        """Make the next pass deliver `epoch`, skipping the first `sample` samples of this replica."""
        self._next = epoch, sample

    def __iter__(self) -> Iterator[int]:
        epoch, sample = self._next
        self._next = epoch + 1, 0  # a loader's workers start the next epoch before this one ends
        for position in range(self.rank, len(self) * self.replicas, self.replicas)[sample:]:
            yield epoch * self.samples + position % self.samples

    def __len__(self) -> int:
        return math.ceil(self.samples / self.replicas)
