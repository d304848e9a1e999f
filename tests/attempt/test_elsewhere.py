"""Which errors of one machine do not end a training run that can be resumed."""

from __future__ import annotations

import errno
import os

import pytest

from include.attempt.elsewhere import retry_elsewhere
from include.training.contract import MachineUnusable


@pytest.mark.parametrize(
    "number",
    [errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN],
    ids=lambda number: errno.errorcode[number],
)
def test_a_training_run_outlasts_the_failure_of_a_share(number: int) -> None:
    continues = r"/share/0\.jpg.*continues on another machine"
    with pytest.raises(MachineUnusable, match=continues), retry_elsewhere(lambda: True):
        raise OSError(number, os.strerror(number), "/share/0.jpg")


def test_the_failure_of_a_network_connection_is_not_taken_for_that_of_a_share() -> None:
    with pytest.raises(TimeoutError), retry_elsewhere(lambda: True):
        raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
