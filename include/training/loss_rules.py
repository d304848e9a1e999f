"""Rules for a training run whose loss jumps or is NaN, and the watch that applies them batch by batch.

A single high loss breaks no rule, because the loss usually comes down by itself. Its cause was an unusual
image or, in mixed precision, a batch that overflowed and whose step was therefore skipped. If a training run
diverges, its loss stays high.

A loss is compared with the largest recent one and not with the average, because in many datasets most images
are empty. A batch without objects has a hundredth of the loss of a batch with objects. Compared with the
average, any batch with objects would look like a spike. docs/loss-spikes.md has the measurements.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

WINDOW = 100
"""Number of recent batches; the next loss is compared with the largest of their losses."""

_LEAST = 20
"""Number of batches before the first comparison, because the first losses say little about later ones."""

_NEGLIGIBLE = 0.1
"""Losses below this value are treated as this value, a classifier's loss at 90 % confidence in the right
class."""

IN_A_ROW = 3
"""Number of consecutive losses that must exceed the limit."""

MOST_ROLL_BACKS = 5
"""Number of rollbacks after which a training run fails, because it needs different data or parameters."""


class Action(StrEnum):
    """What happens when a rule is broken."""

    WARN = "warn"
    """Log a warning."""
    STOP = "stop"
    """Fail the training run."""
    ROLL_BACK = "roll back"
    """Restore an earlier state, and continue from it with a lower learning rate."""


@dataclass(frozen=True)
class LossRules:
    """What to do when the loss jumps or is not finite; by default, losses are not checked."""

    on_spike: Action | None = None
    """Action after IN_A_ROW losses above `factor` times the largest recent one."""
    on_nan: Action | None = None
    """Action (STOP or ROLL_BACK) after IN_A_ROW losses that are not finite, or after a single one in the last
    batch of an epoch. If None, Ultralytics repeats an epoch that ends in NaN, unless it is the first."""
    factor: float = 2.0
    """How many times larger than the largest recent loss a loss has to be to count as a spike."""
    states: int = 1
    """Number of kept states, each from the start of an epoch. A rollback goes back to the oldest of them: the
    start of the current epoch (1), of the previous one (2), and so on."""
    rate: float = 0.5
    """Factor by which a rollback multiplies the learning rate."""

    @property
    def needs_losses(self) -> bool:
        """Whether any rule needs the loss of each batch."""
        return self.on_spike is not None or self.on_nan is not None

    @property
    def needs_states(self) -> bool:
        """Whether any rule needs states to go back to."""
        return Action.ROLL_BACK in {self.on_spike, self.on_nan}


NO_RULES = LossRules()
"""Losses are not checked. If an epoch other than the first ends in NaN, Ultralytics repeats it."""


@dataclass(frozen=True)
class BrokenRule:
    """A broken rule."""

    what: str
    """How the loss broke the rule: the words that follow "The loss" in a message."""
    rule: Literal["on_loss_spike", "on_nan"]
    """The job's parameter that is the rule."""
    action: Action
    """What the rule demands."""


class LossWatch:
    """Checks the loss of each batch against the rules.

    The losses that it remembers are saved as plain values with the training run's state. So a training run
    that is interrupted and resumed breaks the same rule after the same batch.
    """

    def __init__(self, rules: LossRules) -> None:
        self._rules = rules
        self._usual: deque[float] = deque(maxlen=WINDOW)
        self._high: list[float] = []
        self._nans = 0

    def check(self, loss: float, *, ends_epoch: bool) -> BrokenRule | None:
        """Check the loss of the next batch; return a finding if it breaks a rule.

        In an epoch's last batch, one loss that is not finite is enough, because a state is saved after it.
        """
        if math.isfinite(loss):
            self._nans = 0
            return self._check_spike(loss, self._rules.on_spike) if self._rules.on_spike else None
        self._nans += 1
        if self._rules.on_nan is None or not (self._nans == IN_A_ROW or ends_epoch):
            return None
        return BrokenRule(f"was {loss}", "on_nan", self._rules.on_nan)

    def _check_spike(self, loss: float, action: Action) -> BrokenRule | None:
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
            self._usual.extend(row)  # not earlier: the second high loss would be compared with the first
        return BrokenRule(
            f"exceeded {self._rules.factor:g} times the largest loss of the previous {compared} batches "
            f"({largest:.4g}) in {IN_A_ROW} consecutive batches; it is now {loss:.4g}",
            "on_loss_spike",
            action,
        )

    @property
    def is_undecided(self) -> bool:
        """Whether the last batch may turn out to be one of several that break a rule."""
        return bool(self._high) or (self._nans > 0 and self._rules.on_nan is not None)

    def copy_state(self) -> dict[str, Any]:
        """Return the remembered losses, in the form that `restore` accepts."""
        return {"usual": list(self._usual), "high": list(self._high), "nans": self._nans}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from the `state` of an earlier watch, which may have had other rules."""
        self._usual.extend(state["usual"])
        self._high, self._nans = list(state["high"]), state["nans"]
