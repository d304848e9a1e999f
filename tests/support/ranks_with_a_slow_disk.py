"""Ranks on the CPU (ranks_on_cpu.py) that take a second to write best.pt."""

from __future__ import annotations

import time
from typing import Any

from include.training import rank, state_writer
from tests.support.ranks_on_cpu import stand_in


def slow_down() -> None:
    def save_slowly(*arguments: Any) -> None:
        time.sleep(1)
        save(*arguments)

    save = state_writer.save  # type: ignore[attr-defined]
    state_writer.save = save_slowly  # type: ignore[assignment, attr-defined]


if __name__ == "__main__":
    stand_in()
    slow_down()
    rank.main()
