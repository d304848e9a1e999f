"""Two ranks instead of include.training.rank: rank 1 blames the data for an error caused by killing rank 0.

The parent can see the death of rank 0 only a moment after the error of rank 1.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

from include.training.contract import TrainingError

if __name__ == "__main__":
    parent: Connection[Any, Any] = Connection(int(sys.argv[1]))
    parent.recv()
    if os.environ["RANK"] == "1":
        parent.send(TrainingError("data=x cannot be trained on: Connection closed by peer"))
        time.sleep(600)  # until it is killed, as a real rank does
    time.sleep(1)
    os.kill(os.getpid(), signal.SIGKILL)
