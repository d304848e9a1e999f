"""Runs include.training.rank without GPUs: the same processes on the CPU, connected by gloo.

Only Ultralytics' handling of GPU numbers is replaced.
"""

from __future__ import annotations

import os
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import torch
from torch import distributed, nn

from include.training import rank


def stand_in() -> None:
    from ultralytics.engine import validator
    from ultralytics.engine.trainer import BaseTrainer

    from include.training.resumable import ResumableMixin

    class OnCpu(nn.parallel.DistributedDataParallel):
        def __init__(self, module: nn.Module, device_ids: object, **options: Any) -> None:
            super().__init__(module, **options)

    def on_cpu(self: ResumableMixin, *arguments: Any) -> None:
        set_up(self, *arguments)
        self.world_size = int(os.environ["WORLD_SIZE"])
        self.args.workers = 1

    def setup_ddp(self: ResumableMixin) -> None:
        distributed.init_process_group("gloo", timeout=timedelta(minutes=10))

    set_up = ResumableMixin.__init__
    ResumableMixin.__init__ = on_cpu  # type: ignore[method-assign, assignment]
    BaseTrainer._setup_ddp = setup_ddp
    nn.parallel.DistributedDataParallel = OnCpu  # type: ignore[assignment, misc]
    validator.get_torch_device_backend = lambda _: SimpleNamespace(current_device=lambda: 0)
    backend = validator.AutoBackend
    validator.AutoBackend = lambda device, **options: backend(device=torch.device("cpu"), **options)


if __name__ == "__main__":
    stand_in()
    rank.main()
