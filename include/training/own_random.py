"""Gives training a separate random generator instead of Python's global one, which any thread can use.

Ultralytics draws from Python's global generator, and so do other threads of the process: botocore, for
example, before it retries a request. On a CPU, Ultralytics builds samples in this process, so a draw by
another thread in the middle of a sample would change the weights. So Ultralytics' modules get a generator
that nothing else uses. The modules also draw from NumPy's global generator, which can stay shared: it is
seeded again for each sample.
"""

from __future__ import annotations

import random
import sys
from typing import Any


class _OwnRandom(random.Random):  # noqa: S311 - no secret depends on it
    """Replaces the module `random`: it has the same functions, which draw from this generator."""

    def __getattr__(self, name: str) -> Any:
        return getattr(random, name)  # the module's classes


OWN = _OwnRandom()
"""The generator of the modules that `isolate` has changed."""

_DRAWING = ("ultralytics.data.", "ultralytics.models.")


def isolate() -> None:
    """Make the loaded data and model modules of Ultralytics draw from OWN, not the global generator."""
    for name, module in list(sys.modules.items()):
        if name.startswith(_DRAWING) and getattr(module, "random", None) is random:
            module.random = OWN  # type: ignore[attr-defined]
