"""What a training does when its loss jumps or stops being a number: the rules, and what recognizes it.

A rule looks at more than one batch. A loss that jumps once mostly comes down by itself: one odd image, or in
mixed precision a batch that overflowed and was skipped. A training that diverges stays high.

The measure is the largest recent loss and not the average one, because in many data sets most images show
nothing. There the usual loss is a hundredth of that of a batch with objects, and every such batch would be
taken for a spike. Within three batches in a row no ordinary training that was measured exceeded it by itself.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

WINDOW = 100
"""Batches whose largest loss is what the next ones are compared with."""

_LEAST = 20
"""Batches before the first comparison: a training's first losses say little about the next ones."""

_NEGLIGIBLE = 0.1
"""A loss that no rule takes for high: a classifier has it that is 90 % sure of the right class."""

IN_A_ROW = 3
"""Batches that must exceed the limit one after the other."""

MOST_ROLL_BACKS = 5
"""How often a training is rolled back before it ends: by then it needs other data or other parameters."""


class Action(StrEnum):
    """What a rule does."""

    WARN = "warn"
    STOP = "stop"
    ROLL_BACK = "roll back"


@dataclass(frozen=True)
class LossRules:
    """What to do where the loss jumps, or is not a number; by default nobody looks.

    on_spike is for a loss of more than `factor` times the largest recent one. on_nan is STOP or ROLL_BACK;
    without it Ultralytics' own recovery repeats an epoch that ends in NaN. A roll-back goes to the beginning
    of the epoch that is under way, or with more `states` of earlier ones, and multiplies the learning rate by
    `rate`.
    """

    on_spike: Action | None = None
    on_nan: Action | None = None
    factor: float = 2.0
    states: int = 1
    rate: float = 0.5

    @property
    def look_at_batches(self) -> bool:
        """Whether any rule needs the loss of each batch."""
        return self.on_spike is not None or self.on_nan is not None

    @property
    def roll_back(self) -> bool:
        """Whether any rule needs states to go back to."""
        return Action.ROLL_BACK in {self.on_spike, self.on_nan}


NO_RULES = LossRules()
"""Nobody looks at the loss of a batch, and Ultralytics repeats an epoch that ends in NaN."""


@dataclass(frozen=True)
class Finding:
    """What a batch's loss was, as the predicate of a sentence, and what the rule for that does."""

    what: str
    action: Action


class LossWatch:
    """Takes the loss of each batch, and says which rule it breaks.

    Its memory is plain values, because it belongs to a training's state: what is found after a batch must not
    depend on when the training was interrupted.
    """

    def __init__(self, rules: LossRules) -> None:
        self._rules = rules
        self._usual: deque[float] = deque(maxlen=WINDOW)
        self._high: list[float] = []
        self._nans = 0

    def look(self, loss: float, *, ends_epoch: bool) -> Finding | None:
        """Take the loss of the next batch.

        After an epoch's last batch a state is saved, so there one NaN is enough.
        """
        if math.isfinite(loss):
            self._nans = 0
            return self._look_for_spike(loss, self._rules.on_spike) if self._rules.on_spike else None
        self._nans += 1
        if self._rules.on_nan is None or not (self._nans == IN_A_ROW or ends_epoch):
            return None
        return Finding(f"was {loss}", self._rules.on_nan)

    def _look_for_spike(self, loss: float, action: Action) -> Finding | None:
        compared = len(self._usual)
        largest = max(self._usual) if compared >= _LEAST else math.inf
        is_high = loss > self._rules.factor * max(largest, _NEGLIGIBLE)
        self._high.append(loss)
        if is_high and len(self._high) < IN_A_ROW:
            return None
        row, self._high = self._high, []
        if not is_high:
            self._usual.extend(row)
            return None
        if action is not Action.ROLL_BACK:
            self._usual.extend(row)  # only now, or the second one would be compared with the first
        return Finding(
            f"was above {self._rules.factor:g} times the largest of the {compared} batches before "
            f"({largest:.4g}) {IN_A_ROW} times in a row, at last {loss:.4g}",
            action,
        )

    @property
    def is_undecided(self) -> bool:
        """Whether the last batch may turn out to be the first of those that break a rule."""
        return bool(self._high) or (self._nans > 0 and self._rules.on_nan is not None)

    def state(self) -> dict[str, Any]:
        """What `restore` needs to go on."""
        return {"usual": list(self._usual), "high": list(self._high), "nans": self._nans}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where another one was, which may have followed other rules."""
        self._usual.extend(state["usual"])
        self._high, self._nans = list(state["high"]), state["nans"]
