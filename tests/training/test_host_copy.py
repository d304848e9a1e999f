"""The copy of a state that is written in the background keeps the values from the moment of the copy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import nn

from include.training.host_copy import copy_to_host


def test_changes_made_after_the_copy_are_not_in_the_copy() -> None:
    weights, network = torch.zeros(3), nn.Linear(2, 2)
    own = nn.Linear(2, 2)
    own.load_state_dict(network.state_dict())
    state = {"weights": [weights, (weights, 7)], "network": own, "empty": torch.zeros(0)}
    before = network.weight.clone()
    copy, wait = copy_to_host(state, torch.device("cpu"))
    wait()
    with torch.no_grad():
        weights.add_(1)
        network.weight.add_(1)
    first, (second, number) = copy["weights"]
    assert torch.equal(first, torch.zeros(3))
    assert first is second  # one shared object, as in the state
    assert number == 7
    assert torch.equal(copy["network"].weight, before)
    assert copy["empty"].shape == (0,)


@dataclass
class StandIn:
    """Stands in for a stream of a GPU, and records the calls."""

    name: str
    notes: list[str] = field(default_factory=list)

    def wait_stream(self, other: StandIn) -> None:
        self.notes.append(f"{self.name} waits for {other.name}")

    def record_event(self) -> StandIn:
        self.notes.append(f"event on {self.name}")
        return self

    def synchronize(self) -> None:
        self.notes.append(f"the host waits for {self.name}")

    def __enter__(self) -> None:
        self.notes.append(f"on {self.name}")

    def __exit__(self, *_: object) -> None:
        self.notes.append(f"off {self.name}")


def test_the_gpu_waits_for_the_copy_but_the_training_thread_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    training = StandIn("training")
    copying = StandIn("copying", training.notes)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: training)
    monkeypatch.setattr(torch.cuda, "Stream", lambda _: copying)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)
    copied: Any
    copied, wait = copy_to_host({"weights": torch.ones(2)}, torch.device("cuda:0"))
    assert training.notes == [
        "copying waits for training",
        "on copying",
        "off copying",
        "training waits for copying",
        "event on copying",
    ]
    wait()
    assert training.notes[-1] == "the host waits for copying"
    assert torch.equal(copied["weights"], torch.ones(2))
