"""A training run in two processes that is interrupted between two epochs ends with the same weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.tiny_trainings import Epochs, GivesUp, recovery, weights_of
from tests.training.test_distributed import Seen, in_two, make_request, ranks


def test_an_interrupted_run_in_two_processes_ends_with_the_same_weights(tmp_path: Path) -> None:
    wanted, whole = make_request("classify", tmp_path, dropout=0.2), Seen()
    result = in_two(wanted, whole)
    assert [report.epoch for report in whole.reports] == [0, 1, 2]
    assert {report.inexact_reason for report in whole.reports} == {None}
    assert len(whole.processes) >= 4  # two ranks, each with a loader worker, which may be replaced
    assert whole.left() == []
    assert (result.stop_reason, result.epoch, result.device) == ("completed", 2, "cpu and 1 more")
    assert result.fitness is not None
    weights = weights_of(Path(result.last.path))
    shutil.rmtree(wanted.save_dir)

    with pytest.raises(GivesUp.Enough):
        in_two(wanted, GivesUp(after=2))
    assert ranks() == {}
    rest = Epochs()
    result = in_two(recovery(wanted), rest)
    assert [(report.epoch, report.inexact_reason) for report in rest.reports] == [(2, None)]
    assert weights_of(Path(result.last.path)) == weights
