"""Real training runs of tiny models on the CPU diverge, and their loss rules react.

The runs diverge because a callback overwrites a bias of the last layer before certain batches.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from include.checkpoints.checkpoint import Position
from include.checkpoints.keys import BEGINNINGS, EXACT, LOSS_WATCH
from include.training.contract import (
    EpochReporter,
    SavedState,
    TrainingError,
    TrainingProgress,
    TrainingRequest,
)
from include.training.distributed import train_in_ranks
from include.training.loading import load_checkpoint
from include.training.loss_rules import NO_RULES, Action, LossRules
from include.training.plan import plan_training
from include.training.resume import restore
from include.training.run import build_trainer
from tests.support.tiny_models import architecture
from tests.support.tiny_trainings import EndsAt, Epochs, recovery, request, weights_of

ROLL_BACK = LossRules(on_spike=Action.ROLL_BACK, on_nan=Action.ROLL_BACK)
BATCHES, EPOCHS = 10, 4


def make_request(
    folder: Path, rules: LossRules, task: str = "classify", images: int = BATCHES, **arguments: Any
) -> TrainingRequest:
    """Return a request for four epochs of ten one-image batches; an optimizer step takes four batches.

    So every other epoch ends between two optimizer steps.
    """
    given = {"imgsz": 64, "batch": 1, "nbs": 4, "plots": False, "close_mosaic": 1, "warmup_epochs": 0}
    return request(
        task,
        folder,
        images=images,
        model=architecture(folder, task),
        epochs=EPOCHS,
        save_dir=folder / "run",
        loss_rules=rules,
        identity={"job": "a"},
        arguments=given | {"optimizer": "AdamW", "lr0": 0.001, "seed": SEED} | arguments,
    )


def spoils(value: float, *batches: Position) -> Callable[[Any], None]:
    """Return a callback that sets a bias of the last layer to `value` before each (epoch, batch), from 0."""

    def callback(trainer: Any) -> None:
        if (trainer.epoch, trainer._batch) in batches:
            with torch.no_grad():
                list(trainer.model.parameters())[-1][0] = value

    return callback


SPIKES = spoils(1000.0, (2, 3))
"""After this, images of the other class (with SEED, the next three images) have a loss of 1,000."""

SEED = 14


class Watched(EndsAt):
    """Records the hash of the weights of each saved state, by the state's position."""

    trainer: Any

    def __init__(self, save_dir: Path, *positions: Position) -> None:
        super().__init__(*positions)
        self.last = save_dir / "weights" / "last.pt"
        self.weights: dict[Position, str] = {}

    def report_progress(self, progress: TrainingProgress) -> bool:
        if wanted := super().report_progress(progress):
            self.trainer.state_writer.flush()  # no state is saved during the write of another one
        return wanted

    def report_state(self, state: SavedState) -> None:
        self.weights[state.epoch, state.batch] = weights_of(self.last)
        super().report_state(state)


def run(wanted: TrainingRequest, spoil: Callable[[Any], None], *wants: Position, workers: int = 0) -> Watched:
    """Train, and request states at these positions; the state at the last position ends the attempt."""
    reporter = Watched(wanted.save_dir, *wants)
    with build_trainer(wanted, reporter, reporter) as trainer:
        reporter.trainer, trainer.args.workers = trainer, workers
        trainer.add_callback("on_train_batch_start", spoil)
        with suppress(EndsAt.Enough):
            trainer.train()
    return reporter


def on_another_machine(wanted: TrainingRequest, folder: Path) -> TrainingRequest:
    """Return the next attempt's request, on a machine that has only last.pt and best.pt, as S3 has them."""
    inputs = folder / "inputs"
    shutil.rmtree(inputs, ignore_errors=True)
    shutil.copytree(wanted.save_dir / "weights", inputs, ignore=shutil.ignore_patterns("epoch-end.pt"))
    shutil.rmtree(wanted.save_dir)
    return replace(recovery(wanted), resume_from=inputs / "last.pt", best_from=inputs / "best.pt")


def watch_of(wanted: TrainingRequest) -> dict[str, Any]:
    state: dict[str, Any] = load_checkpoint(wanted.save_dir / "weights" / "last.pt")[EXACT]
    return dict(state[LOSS_WATCH])


def test_a_roll_back_restores_a_state_and_a_run_killed_before_or_after_it_ends_with_the_same_weights(
    tmp_path: Path,
) -> None:
    wanted = make_request(tmp_path, replace(ROLL_BACK, states=2))
    whole = run(wanted, SPIKES, (1, 4), (1, 5), (1, 6), (9, 9), workers=1)
    assert watch_of(wanted)["roll_backs"] == 1
    # No state was saved between the spike and the rollback.
    assert list(whole.weights) == [(0, 0), (1, 0), (2, 0), (3, 0)]
    assert whole.weights[2, 0] == whole.weights[0, 0]
    planned = [0.001 * (0.99 * (1 - epoch / EPOCHS) + 0.01) for epoch in range(EPOCHS)]
    rates = [report.metrics["lr/pg0"] for report in whole.reports]
    assert rates == pytest.approx([*planned[:3], planned[3] / 2], rel=1e-3)
    shutil.rmtree(wanted.save_dir)

    attempt, reports = wanted, []
    for position in ((1, 2), (2, 0)):
        reports += run(attempt, SPIKES, position).reports
        attempt = on_another_machine(wanted, tmp_path)
    rest = run(attempt, SPIKES)
    assert rest.weights[3, 0] == whole.weights[3, 0]
    reported = {report.epoch: report.metrics for report in [*reports, *rest.reports]}
    assert [reported[report.epoch] for report in whole.reports] == [
        report.metrics for report in whole.reports
    ]
    assert rest.reports[-1].inexact_reason is None

    child = replace(recovery(wanted), save_dir=tmp_path / "child", epochs=9, arguments={}, recover=False)
    restored = load_checkpoint(restore(child, rest.last).path)
    # The child keeps the lowered rate, but forgets the parent's losses, because its own may differ.
    assert restored[EXACT][LOSS_WATCH] == {"rate": 0.5}


def test_a_run_that_has_since_got_a_gradient_scaler_is_rolled_back(tmp_path: Path) -> None:
    """With resume_from, amp may be turned on in the middle of an epoch."""

    def turn_on(trainer: Any) -> None:
        if (trainer.epoch, trainer._batch) == (2, 2):
            trainer.scaler = torch.amp.GradScaler("cpu")
        SPIKES(trainer)

    wanted = make_request(tmp_path, ROLL_BACK)
    rolled_back = run(wanted, turn_on)
    assert watch_of(wanted)["roll_backs"] == 1
    assert rolled_back.weights[2, 0] == rolled_back.weights[1, 0]


def test_a_spike_that_began_in_the_previous_epoch_is_rolled_back_to_the_beginning_of_that_epoch(
    tmp_path: Path,
) -> None:
    wanted = make_request(
        tmp_path, ROLL_BACK, images=11, seed=2
    )  # with this seed the next three images are of the other class
    spiked = run(replace(wanted, epochs=3), spoils(1000.0, (1, 10)))
    assert watch_of(wanted)["roll_backs"] == 1
    assert spiked.weights[2, 0] == spiked.weights[0, 0] != spiked.weights[1, 0]


def test_an_ordinary_run_breaks_no_rule_and_watching_it_changes_nothing(tmp_path: Path) -> None:
    rules = replace(make_request(tmp_path, replace(ROLL_BACK, factor=1.5), "detect", val=False), epochs=3)
    watched = run(rules, spoils(0.0))
    assert watch_of(rules)["roll_backs"] == 0
    assert len(watch_of(rules)["seen"]["usual"]) == 3 * BATCHES
    assert BEGINNINGS not in load_checkpoint(watched.last)[EXACT]  # no rollback follows
    none = run(replace(rules, loss_rules=NO_RULES), spoils(0.0))
    assert none.weights == watched.weights


def test_a_warning_is_one_line_and_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(make_request(tmp_path, LossRules(on_spike=Action.WARN), val=False), SPIKES)
    warnings = [record.message for record in caplog.records if "The loss" in record.message]
    assert len(warnings) == 1
    assert "exceeded 2 times the largest loss of the previous 23 batches" in warnings[0]
    assert warnings[0].endswith("in batch 6 of epoch 3.")


def test_a_run_stopped_by_a_rule_keeps_its_state_and_a_new_job_continues_it_with_rollbacks(
    tmp_path: Path,
) -> None:
    parent = make_request(tmp_path, LossRules(on_spike=Action.STOP))
    with pytest.raises(
        TrainingError, match=r"previous 23 .* in batch 6 of epoch 3, and on_loss_spike='stop'"
    ):
        run(parent, SPIKES, (1, 3), (1, 4), (9, 9))
    weights = parent.save_dir / "weights"
    state = load_checkpoint(weights / "last.pt")
    assert (state["epoch"], state[EXACT]["batch"]) == (1, 3)

    child = replace(
        parent,
        save_dir=tmp_path / "child",
        resume_from=weights / "last.pt",
        best_from=weights / "best.pt",
        arguments={},
        loss_rules=replace(ROLL_BACK, factor=5.0),
    )
    rest = run(child, spoils(math.nan, (2, 5)))
    assert [report.epoch for report in rest.reports] == [2, 3]
    # The child has no older state than its first one, so it rolled back to the weights it began with.
    assert rest.weights[2, 0] == weights_of(weights / "last.pt")
    assert watch_of(child)["rate"] == 0.5


def test_weights_that_become_nan_in_the_first_epoch_end_training_by_its_rule(tmp_path: Path) -> None:
    wanted = make_request(tmp_path, LossRules(on_nan=Action.STOP))
    with pytest.raises(TrainingError, match=r"^The loss was nan, in batch 5 of epoch 1, and on_nan='stop'"):
        run(wanted, spoils(math.nan, (0, 2)))


def test_without_a_rule_an_epoch_of_nan_is_repeated_three_times_before_an_error_with_a_remedy(
    tmp_path: Path,
) -> None:
    wanted = make_request(tmp_path, NO_RULES, batch=5)
    begun: list[int] = []

    def always(trainer: Any) -> None:
        begun.append(trainer.epoch)
        spoils(math.nan, (2, 1))(trainer)

    with pytest.raises(
        TrainingError,
        match=r"^Epoch 3 ended with .* and so did its 3 repetitions\. .* on_nan='roll back'",
    ):
        run(wanted, always)
    assert begun == [0, 0, 1, 1, *[2] * 8]
    assert load_checkpoint(wanted.save_dir / "weights" / "last.pt")["epoch"] == 1


def test_a_repeated_epoch_is_kept_once_so_that_a_rollback_still_reaches_the_previous_epoch(
    tmp_path: Path,
) -> None:
    wanted = make_request(tmp_path, LossRules(on_spike=Action.ROLL_BACK, states=2), batch=5)
    passes: list[tuple[int, list[int]]] = []

    def once(trainer: Any) -> None:
        if trainer._batch == 0:
            passes.append((trainer.epoch, [start["epoch"] for start in trainer.epoch_starts]))
        if [epoch for epoch, _ in passes].count(2) == 1:
            spoils(math.nan, (2, 1))(trainer)

    run(wanted, once)
    assert passes == [(0, [0]), (1, [0, 1]), (2, [1, 2]), (2, [1, 2]), (3, [2, 3])]


def test_without_a_rule_a_nan_first_epoch_ends_training(tmp_path: Path) -> None:
    wanted = make_request(tmp_path, NO_RULES, batch=5)
    with pytest.raises(
        TrainingError,
        match=r"became NaN or infinite in the first epoch.* smaller lr0 and an optimizer other than auto",
    ):
        run(wanted, spoils(math.nan, (0, 1)))
    assert not (wanted.save_dir / "weights" / "last.pt").exists()


def test_a_run_that_diverges_repeatedly_is_not_rolled_back_for_ever(tmp_path: Path) -> None:
    wanted = replace(make_request(tmp_path, ROLL_BACK, batch=5), epochs=9)
    with pytest.raises(
        TrainingError,
        match=r"^The loss was nan, in batch 2 of epoch 7, even after 5 rollbacks and at 0\.031 times",
    ):
        run(wanted, spoils(math.nan, *((epoch, 1) for epoch in range(1, 9))))


def in_two(wanted: TrainingRequest, reporter: EpochReporter) -> None:
    """Train in two processes; only the second one diverges."""
    with plan_training(wanted) as plan:
        train_in_ranks(plan, 2, reporter, program="tests.support.spoilt_ranks")


def make_request_for_two(folder: Path, epochs: int) -> TrainingRequest:
    """Return a request with one image per process and batch; with this seed the second process diverges."""
    wanted = make_request(folder, ROLL_BACK, images=2 * BATCHES, batch=2, seed=5)
    return replace(wanted, epochs=epochs)


def test_two_processes_roll_back_together_although_only_one_diverges(tmp_path: Path) -> None:
    """If only one process rolled back, each would wait for ever for the other."""
    wanted, reporter = make_request_for_two(tmp_path, epochs=3), Epochs()
    in_two(wanted, reporter)
    assert [report.epoch for report in reporter.reports] == [0, 1, 2]
    assert watch_of(wanted)["roll_backs"] == 1
