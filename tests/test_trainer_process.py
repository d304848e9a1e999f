"""The trainer as a process of its own: command line, network silence, lack of memory, sudden death."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from include.checkpoints.loading import require_resumable
from tests.tiny_datasets import build

ROOT = Path(__file__).parents[1]
QUICK = ["--set", "imgsz=64", "batch=4", "workers=0"]

OFFLINE = """
import socket, sys

def refuse(event, args):
    if event in {"socket.connect", "socket.getaddrinfo"}:
        raise SystemExit(f"the network was asked: {event} {args}")

sys.addaudithook(refuse)
from include.training.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def run(*arguments: str | Path, program: str | None = None) -> subprocess.CompletedProcess[str]:
    start = ["-c", program] if program else ["-m", "include.training"]
    command = [sys.executable, *start, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)


def test_the_command_line_trains_resumes_and_never_asks_the_network(tmp_path: Path) -> None:
    data = build("detect", tmp_path / "data")
    first, second = tmp_path / "first", tmp_path / "second"
    done = run("--data", data, "--epochs", "1", "--save-dir", first, *QUICK, program=OFFLINE)
    assert done.returncode == 0, done.stderr
    assert "epoch=1/1 train/box_loss=" in done.stderr
    assert "training on the CPU" in done.stderr
    assert not {"\r", "\x1b", "⚠"} & set(done.stderr)
    last = json.loads(done.stdout)["last"]["path"]
    assert last == str(first / "weights" / "last.pt")

    done = run(
        "--resume", last, "--epochs", "2", "--save-dir", second, "--set", "plots=false", program=OFFLINE
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["start_epoch"], result["epoch"], result["epochs"]) == (1, 1, 2)


def test_what_cannot_be_trained_is_one_sentence_and_status_1(tmp_path: Path) -> None:
    done = run("--data", tmp_path / "nothing.yaml", "--device", "cpu")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: data=")
    assert "Traceback" not in done.stderr


def test_a_wrong_command_line_is_status_2() -> None:
    assert run("--set", "imgsz").returncode == 2


def test_running_out_of_memory_is_a_sentence(tmp_path: Path) -> None:
    data = build("detect", tmp_path / "data")
    program = f"""
import resource, sys
from pathlib import Path
import include.training.trainers
from include.training.__main__ import main

in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (in_use + {700 * 2**20},) * 2)
sys.exit(main(sys.argv[1:]))
"""
    options = ["--set", "imgsz=1280", "batch=8", "workers=0", "plots=false"]
    done = run("--data", data, "--save-dir", tmp_path / "run", *options, program=program)
    assert done.returncode == 1
    assert "error: cpu ran out of memory with batch=8 and imgsz=1280; give a smaller batch" in done.stderr


def test_a_kill_while_last_pt_is_written_leaves_the_one_before(tmp_path: Path) -> None:
    data, weights = build("classify", tmp_path / "data"), tmp_path / "run" / "weights"
    command = [sys.executable, "-m", "include.training", "--task", "classify", "--device", "cpu"]
    command += [
        "--data",
        str(data),
        "--epochs",
        "9999",
        "--save-dir",
        str(tmp_path / "run"),
        *QUICK,
        "plots=false",
    ]
    with (tmp_path / "log").open("w") as log:
        training = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
    try:
        _wait_for(weights / "last.pt", training)
        part = weights / "last.pt.part"
        while True:  # stop it in the middle of a write, which takes some milliseconds
            _wait_for(part, training)
            os.kill(training.pid, signal.SIGSTOP)
            os.waitid(os.P_PID, training.pid, os.WSTOPPED | os.WNOWAIT)
            if part.exists():
                break
            os.kill(training.pid, signal.SIGCONT)
    finally:
        training.kill()
        training.wait()
    assert part.exists()
    assert require_resumable(weights / "last.pt").epoch is not None
    assert require_resumable(weights / "best.pt").epoch is not None


def _wait_for(path: Path, training: subprocess.Popen[bytes]) -> None:
    while not path.exists():
        assert training.poll() is None, f"it ended with status {training.returncode}"
        time.sleep(0.0002)
