"""A loss that stays high counts as a spike; ordinary losses do not."""

from __future__ import annotations

import math
import random

import pytest

from include.training.loss_rules import IN_A_ROW, WINDOW, Action, BrokenRule, LossRules, LossWatch

RULES = LossRules(on_spike=Action.WARN, on_nan=Action.STOP)


def found(losses: list[float], rules: LossRules = RULES, batches: int = 1000) -> list[tuple[int, BrokenRule]]:
    """Return each finding with the index of its batch; an epoch has `batches` batches."""
    watch = LossWatch(rules)
    looks = [watch.check(loss, ends_epoch=(index + 1) % batches == 0) for index, loss in enumerate(losses)]
    return [(index, finding) for index, finding in enumerate(looks) if finding]


def test_a_loss_that_stays_high_is_a_spike_at_the_third_batch() -> None:
    losses = [3.0] * 49 + [4.0] + [8.1, 9.0, 10.0]
    assert found(losses) == [
        (
            52,
            BrokenRule(
                "exceeded 2 times the largest loss of the previous 50 batches (4) in 3 consecutive batches; "
                "it is now 10",
                "on_loss_spike",
                Action.WARN,
            ),
        )
    ]


@pytest.mark.parametrize(
    "after",
    [[8.1, 9.0, 3.0] * 9, [8.0] * 9, [math.nan, 9.0, 9.0, math.inf, 3.0], []],
    ids=["never three in a row", "not above the limit", "two and a NaN", "nothing"],
)
def test_a_loss_that_comes_down_by_itself_is_not_a_spike(after: list[float]) -> None:
    assert found([3.0] * 49 + [4.0, *after]) == []


def test_a_spike_is_reported_once_however_long_it_lasts() -> None:
    assert [index for index, _ in found([3.0] * 50 + [30.0] * 200)] == [52]


def test_the_losses_of_a_spike_are_forgotten_after_a_rollback() -> None:
    rules = LossRules(on_spike=Action.ROLL_BACK)
    assert [index for index, _ in found([3.0] * 50 + [30.0] * 3 + [3.0] * 5 + [30.0] * 3, rules)] == [52, 60]


def test_a_spike_needs_at_least_twenty_earlier_losses() -> None:
    assert found([1.0] * 10 + [50.0] * 100) == []
    assert [index for index, _ in found([1.0] * 20 + [50.0] * 100)] == [22]


def test_only_the_newest_batches_count() -> None:
    assert found([100.0] + [1.0] * (WINDOW - 1) + [5.0] * IN_A_ROW) == []
    assert [index for index, _ in found([100.0] + [1.0] * WINDOW + [5.0] * IN_A_ROW)] == [WINDOW + IN_A_ROW]


def test_empty_images_do_not_make_images_with_objects_a_spike() -> None:
    """With many empty images, the loss of a batch without objects is a hundredth of that of other batches."""
    dice = random.Random(0)
    assert found([12.0 if dice.random() < 0.3 else 0.1 for _ in range(20_000)]) == []


def test_small_losses_after_zero_losses_are_not_a_spike() -> None:
    assert found([0.0] * 50 + [0.15] * 50) == []


def test_one_nan_is_ignored_unless_it_ends_an_epoch_but_three_in_a_row_are_not() -> None:
    assert found([1.0, math.nan, math.inf, 1.0, math.nan, math.nan, 1.0]) == []
    assert found([1.0, math.nan, math.nan, math.inf, 1.0]) == [
        (3, BrokenRule("was inf", "on_nan", Action.STOP))
    ]
    assert found([1.0, 1.0, math.nan], batches=3) == [(2, BrokenRule("was nan", "on_nan", Action.STOP))]


def test_nothing_is_found_for_a_rule_that_is_off() -> None:
    losses = [1.0] * 50 + [math.nan] * 5 + [50.0] * 5
    assert [finding.action for _, finding in found(losses, LossRules(on_spike=Action.STOP))] == [Action.STOP]
    assert [finding.what for _, finding in found(losses, LossRules(on_nan=Action.STOP))] == ["was nan"]
    assert found(losses, LossRules()) == []


def test_a_watch_restored_after_every_batch_has_the_same_findings() -> None:
    dice = random.Random(1)
    rules = LossRules(on_spike=Action.WARN, on_nan=Action.STOP, factor=1.01)
    losses = [1.02**index * dice.choice([0.5, 1.0, 1.0, 1.0, math.nan]) for index in range(600)]
    whole = found(losses, rules)
    assert {finding.action for _, finding in whole} == {Action.WARN, Action.STOP}
    watch, again = LossWatch(rules), []
    for index, loss in enumerate(losses):
        if finding := watch.check(loss, ends_epoch=(index + 1) % 1000 == 0):
            again.append((index, finding))
        restored = LossWatch(rules)
        restored.restore(watch.copy_state())
        watch = restored
    assert again == whole
