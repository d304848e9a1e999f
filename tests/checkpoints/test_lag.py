"""A warning is logged if S3 does not accept states, and again whenever the lag has doubled."""

from __future__ import annotations

import logging

import pytest

from include.checkpoints.lag import Lag


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_lag_is_logged_at_its_beginning_at_each_doubling_and_at_its_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lag = Lag(epochs=5, seconds=3600)
    lag.record_try((0, 0), now=0)
    lag.record_durable((0, 0))
    lag.record_try((1, 0), now=0)
    logged = []
    for epoch in range(1, 23):
        lag.look((epoch, 0), now=0)
        logged.append(len(caplog.records))
    lag.record_durable((22, 0))

    # one warning each when more than 5, 10 and 20 finished epochs are not in S3
    assert [logged.index(number) + 1 for number in (1, 2, 3)] == [6, 11, 21]
    assert "Training is at epoch 7, but the newest state in S3 is from epoch 1" in warnings(caplog)[0]
    assert warnings(caplog)[-1] == "S3 accepts uploads again: the state after epoch 23 is stored."


def test_a_lag_is_also_counted_in_seconds(caplog: pytest.LogCaptureFixture) -> None:
    lag = Lag(epochs=5, seconds=300)
    lag.record_try((0, 0), now=1000)
    for now in (1300, 1301, 1600, 1601, 1602):
        lag.look((0, 0), now)

    assert len(warnings(caplog)) == 2
    assert "S3 has no state yet: no upload has succeeded for 301 s" in warnings(caplog)[0]


def test_a_lag_warning_names_the_durable_state_of_an_earlier_attempt(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lag = Lag(epochs=5, seconds=300, durable=(3, 0))
    lag.record_try((4, 0), now=0)
    lag.look((5, 0), now=301)

    assert "the newest state in S3 is from epoch 4" in warnings(caplog)[0]


def test_a_state_that_is_not_due_yet_is_not_a_lag(caplog: pytest.LogCaptureFixture) -> None:
    lag = Lag(epochs=5, seconds=300)
    lag.record_try((0, 0), now=0)
    lag.record_durable((0, 0))
    lag.look((100, 0), now=10_000)
    lag.record_try((100, 0), now=10_000)
    lag.look((101, 0), now=10_001)
    lag.record_durable((100, 0))

    assert not warnings(caplog)
