"""An attempt's snapshots are its own for as long as its process lives."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from include.pipeline.snapshots import attempt_folder, remove_abandoned

KEEPS_A_SNAPSHOT = """
import sys, time
from pathlib import Path
from include.pipeline.snapshots import attempt_folder
with attempt_folder(Path(sys.argv[1])) as folder:
    (folder / "last-3.pt").write_bytes(b"state")
    print(folder, flush=True)
    time.sleep(600)
"""


def test_a_new_attempt_leaves_the_snapshots_of_one_that_is_still_there_and_removes_those_of_a_killed_one(
    tmp_path: Path,
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KEEPS_A_SNAPSHOT, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as older:
        assert older.stdout is not None
        folder = Path(older.stdout.readline().strip())
        remove_abandoned(tmp_path)
        kept = [path.name for path in folder.iterdir()]
        older.send_signal(signal.SIGKILL)
        older.wait()
    remove_abandoned(tmp_path)

    assert kept == ["last-3.pt"]
    assert not folder.exists()


def test_an_attempt_leaves_nothing(tmp_path: Path) -> None:
    with attempt_folder(tmp_path / "snapshots") as folder:
        (folder / "last-0.pt").touch()
    assert list((tmp_path / "snapshots").iterdir()) == []


def test_what_lay_there_without_a_folder_is_removed(tmp_path: Path) -> None:
    (tmp_path / "last-0.pt").touch()
    remove_abandoned(tmp_path)
    assert list(tmp_path.iterdir()) == []
