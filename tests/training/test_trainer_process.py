"""The trainer as a separate process: its command line, no network access, lack of memory, sudden death."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

from include.checkpoints.keys import BEST_EPOCH, EXACT
from include.training.__main__ import main
from include.training.loading import load_checkpoint, load_training_state
from tests.support.killing import Attempt, Machine, Place, stop_when, wait_until
from tests.support.offline import refuse_network
from tests.support.tiny_datasets import build
from tests.support.tiny_models import command

ROOT = Path(__file__).parents[2]
QUICK = ["--set", "imgsz=64", "batch=4", "workers=0"]

OFFLINE = """
import sys
from tests.support.offline import refuse_network
refuse_network()
from include.training.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def run(*arguments: str | Path, program: str | None = None) -> subprocess.CompletedProcess[str]:
    start = ["-c", program] if program else ["-m", "include.training"]
    command = [sys.executable, *start, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)


def resume_offline(*arguments: str) -> int:
    refuse_network()
    return main(arguments)


def test_the_command_line_trains_and_resumes_without_network_access(tmp_path: Path) -> None:
    data = build("detect", tmp_path / "data")
    first, second = tmp_path / "first", tmp_path / "second"
    done = run("--data", data, "--epochs", "1", "--save-dir", first, *QUICK, program=OFFLINE)
    assert done.returncode == 0, done.stderr
    assert "epoch=1/1 train/box_loss=" in done.stderr
    assert "training on the CPU" in done.stderr
    assert not {"\r", "\x1b", "⚠"} & set(done.stderr)
    last = json.loads(done.stdout)["last"]["path"]
    assert last == str(first / "weights" / "last.pt")

    resume = ["--resume", last, "--epochs", "2", "--save-dir", str(second), "--set", "plots=false"]
    with Attempt(resume_offline, *resume, folder=tmp_path / "resume", machine=Machine(threads=1)) as resumed:
        assert resumed.status() == 0, resumed.log.read_text()
    result = json.loads("{" + resumed.log.read_text().rpartition("\n{")[2])
    assert (result["start_epoch"], result["epoch"], result["epochs"]) == (1, 1, 2)
    states = [load_checkpoint(folder / "weights" / "last.pt")[EXACT] for folder in (first, second)]
    assert [state["identity"]["data"] for state in states] == [str(data), str(data)]


def test_an_impossible_request_ends_with_one_line_of_error_and_status_1(tmp_path: Path) -> None:
    done = run("--data", tmp_path / "nothing.yaml", "--device", "cpu")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: data=")
    assert "Traceback" not in done.stderr
    (file := tmp_path / "file").touch()
    done = run("--data", build("detect", tmp_path / "data"), "--device", "cpu", "--save-dir", file / "run")
    assert (done.returncode, done.stdout) == (1, "")
    assert "error: [Errno 20] Not a directory" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_command_line_ends_with_status_2() -> None:
    assert run("--set", "imgsz").returncode == 2


def train_with_700_mib(*arguments: str) -> int:
    """Train with 700 MiB in addition to what this process uses: its libraries are loaded already."""
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + 700 * 2**20,) * 2)
    return main(arguments)


def test_running_out_of_memory_is_reported_with_a_remedy(tmp_path: Path) -> None:
    data = build("detect", tmp_path / "data")
    call = ["--data", str(data), "--save-dir", str(tmp_path / "run")]
    call += ["--set", "imgsz=1280", "batch=8", "workers=0", "plots=false"]
    with Attempt(train_with_700_mib, *call, folder=tmp_path / "call", machine=Machine(threads=1)) as training:
        assert training.status() == 1
    remedy = "error: cpu ran out of memory with batch=8 and imgsz=1280; reduce batch"
    assert remedy in training.log.read_text()


def test_a_kill_during_the_write_of_last_pt_leaves_the_previous_one(tmp_path: Path) -> None:
    data, weights = build("classify", tmp_path / "data"), tmp_path / "run" / "weights"
    call = ["--task", "classify", "--device", "cpu", "--data", str(data), "--epochs", "9999"]
    call += ["--save-dir", str(tmp_path / "run"), *QUICK, "plots=false"]
    with Attempt(main, call, folder=tmp_path / "call", machine=Machine(threads=1)) as training:
        wait_until((weights / "last.pt").exists, training.pid)
        stop_when(training.pid, (part := weights / f"last.pt.{training.pid}.part").exists)
    assert part.exists()
    assert load_training_state(weights / "last.pt")["epoch"] >= 0
    assert load_checkpoint(weights / "best.pt")[BEST_EPOCH] >= 0


class Call:
    """Runs the trainer's command line repeatedly in the same folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.calls = folder, 0

    def __call__(self, *options: str, epochs: int = 3, dies_at: Place | None = None) -> Attempt:
        self.calls += 1
        return Attempt(
            main,
            command(self.folder, epochs, *options),
            folder=self.folder / f"call-{self.calls}",
            machine=Machine(threads=1),
            dies_at=dies_at,
        )


def test_sigterm_ends_the_trainer_without_a_traceback_and_recover_continues(tmp_path: Path) -> None:
    call, last = Call(tmp_path), tmp_path / "run" / "weights" / "last.pt"
    with call("--recover", epochs=500) as training:
        wait_until(last.exists, training.pid)
        os.kill(training.pid, signal.SIGTERM)
        assert training.status() == 143
        log = training.log.read_text()
        assert log.endswith(
            "error: terminated; run the same command with --recover to continue after the last saved batch\n"
        )
        assert "Traceback" not in log
    epoch = load_training_state(last)["epoch"]
    assert epoch >= 0
    with call("--recover", epochs=500, dies_at=Place("on_train_epoch_end")) as training:
        training.status()
        assert training.begun == [epoch + 1]


def test_without_recover_an_earlier_run_is_replaced(tmp_path: Path) -> None:
    call = Call(tmp_path)
    with call(dies_at=Place("on_train_epoch_start", 2)) as training:
        training.status()
    with call(dies_at=Place("on_train_epoch_start", 2)) as training:
        training.status()
        assert training.begun == [0, 1]


def test_recover_refuses_the_state_of_a_different_command(tmp_path: Path) -> None:
    call = Call(tmp_path)
    with call(dies_at=Place("on_train_epoch_start", 3)) as training:  # the first epoch's state is written
        training.status()
    with call("--recover", epochs=4) as training:
        assert training.status() == 1
        assert "another training run (epochs was 3 and is 4); give the options" in training.log.read_text()
        assert "Traceback" not in training.log.read_text()


def test_recover_continues_a_resumed_run(tmp_path: Path) -> None:
    """Until its first epoch is over, the resumed run continues from the last.pt of the other training run."""
    (other := tmp_path / "other").mkdir()
    with Call(other)(epochs=1) as training:
        assert training.status() == 0, training.log.read_text()
    call, resume = Call(tmp_path), ("--recover", "--resume", str(other / "run" / "weights" / "last.pt"))
    for dies_at, begun in (
        (Place("on_train_epoch_end"), [1]),
        # The third rename gives last.pt the state of epoch 2, after the resumed state and that of epoch 1.
        (Place("os.rename last.pt.part", 3), [1, 2]),
        (None, [2]),
    ):
        with call(*resume, dies_at=dies_at) as training:
            assert training.status() == (-signal.SIGKILL if dies_at else 0), training.log.read_text()
            assert training.begun == begun
