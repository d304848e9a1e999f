"""Random numbers that only the training draws.

Ultralytics draws from Python's global generator, and so does any other thread of the process: botocore, for
one, before it tries a request again. On a CPU, where no loader process has a generator of its own, one such
number in the middle of a sample gave other weights. Ultralytics' modules get a generator that nobody else
knows.
"""

from __future__ import annotations

import random
import sys
from typing import Any


class _OwnRandom(random.Random):  # noqa: S311  no secret depends on it
    """Stands in for the module `random`: the same functions, which draw from this generator."""

    def __getattr__(self, name: str) -> Any:
        return getattr(random, name)  # the module's classes


OWN = _OwnRandom()
"""What Ultralytics' modules draw from once `isolate` was called."""

_DRAWING = ("ultralytics.data.", "ultralytics.models.")


def isolate() -> None:
    """Make the modules of Ultralytics that are loaded draw from OWN, and not from the global generator."""
    for name, module in list(sys.modules.items()):
        if name.startswith(_DRAWING) and getattr(module, "random", None) is random:
            module.random = OWN  # type: ignore[attr-defined]
