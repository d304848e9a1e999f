"""Ranks on the CPU (ranks_on_cpu.py); only the second diverges: its bias is overwritten in epoch 3."""

from __future__ import annotations

from typing import Any

from include.training import rank
from tests.support.ranks_on_cpu import stand_in
from tests.training.test_loss_guard import SPIKES


def spoil_one() -> None:
    from ultralytics.utils import RANK

    from include.training.resumable import ResumableMixin

    def with_spikes(self: ResumableMixin, *arguments: Any) -> None:
        set_up(self, *arguments)
        if RANK == 1:
            self.add_callback("on_train_batch_start", SPIKES)

    set_up = ResumableMixin.__init__
    ResumableMixin.__init__ = with_spikes  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    stand_in()
    spoil_one()
    rank.main()
