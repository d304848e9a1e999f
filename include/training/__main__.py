"""Train a YOLO model, and keep a last.pt to resume from; nothing is ever downloaded.

Only torch and Ultralytics are needed: `python -m include.training --data data.yaml --epochs 10`. Each epoch
is logged to stderr on one line, and the result goes to stdout as JSON. The state is saved after each epoch
and, within an epoch, every --save-seconds. Exit status: 0 trained, 1 could not be trained (stderr ends with
the reason), 2 wrong usage, 130 interrupted, 143 terminated. After an interruption or a kill, the same command
with --recover continues the run. It then ends with the same weights as an uninterrupted run, or logs why they
may differ.
"""

from __future__ import annotations

import argparse
import dataclasses
import filecmp
import json
import logging
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from include.errors import ProjectError
from include.training.architectures import find_default_architecture
from include.training.contract import StateMismatch, TrainingError, TrainingRequest, require_task
from include.training.loading import load_training_state, read_task
from include.training.resume import require_identity
from include.training.run import SilentReporter, train

if TYPE_CHECKING:
    from collections.abc import Sequence

    from include.training.contract import SavedState, TrainingProgress


class _Terminated(KeyboardInterrupt):
    """SIGTERM was received, for example because the machine is shutting down."""


class _Periodic:
    """A StateReporter that requests a state every `seconds` seconds of training."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._saved: float | None = None

    def report_progress(self, progress: TrainingProgress) -> bool:
        """Return whether the next state is due."""
        if self._saved is None:
            self._saved = progress.trained_seconds
        return progress.trained_seconds - self._saved >= self._seconds

    def report_state(self, state: SavedState) -> None:
        """Count the seconds from this state."""
        self._saved = state.trained_seconds


def main(argv: Sequence[str] | None = None) -> int:
    """Train as the command line specifies; return the exit status."""
    options = _build_parser().parse_args(argv)
    signal.signal(signal.SIGTERM, _terminate)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        request = _build_request(options)
        if options.recover:
            request = _continue_interrupted(request)
        result = train(request, SilentReporter(), _Periodic(options.save_seconds))
    except (ProjectError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except KeyboardInterrupt as error:
        what, status = ("terminated", 143) if isinstance(error, _Terminated) else ("interrupted", 130)
        sys.stderr.write(
            f"error: {what}; run the same command with --recover to continue after the last saved batch\n"
        )
        return status
    sys.stdout.write(json.dumps(dataclasses.asdict(result), indent=2) + "\n")
    return 0


def _terminate(*_: object) -> NoReturn:
    raise _Terminated


def _build_request(options: argparse.Namespace) -> TrainingRequest:
    given = {"epochs": options.epochs, "device": options.device, "save_dir": options.save_dir}
    given["arguments"] = dict(options.set)
    if options.resume is None:
        if options.data is None:
            raise TrainingError("--data is missing; give the dataset's YAML, or its folder for classify")
        task = require_task(options.task or "detect")
        model = options.model or find_default_architecture(task)
        identity = {"task": task, "model": model} | _identify_run(options, options.data)
        return TrainingRequest(task=task, model=model, data=options.data, identity=identity, **given)
    state = load_training_state(options.resume, options.task)
    best = options.best or options.resume.with_name("best.pt")
    data = options.data or Path(str(state["train_args"].get("data") or ""))
    return TrainingRequest(
        task=require_task(read_task(state)),
        model=str(options.resume),
        data=data,
        resume_from=options.resume,
        best_from=best if options.best or best.is_file() else None,
        identity={"resume": str(options.resume.resolve())} | _identify_run(options, data),
        **given,
    )


def _identify_run(options: argparse.Namespace, data: Path) -> dict[str, object]:
    """Return the arguments that identify the training run: a call that continues it must give the same ones.

    The device and `workers` are not among them, because they may differ between machines.
    """
    arguments = {name: value for name, value in options.set if name != "workers"}
    return {"data": str(data.resolve()), "epochs": options.epochs} | arguments


def _continue_interrupted(request: TrainingRequest) -> TrainingRequest:
    """Return `request`, changed to continue from the state that an interrupted call left, if there is one."""
    last, best = (request.save_dir / "weights" / name for name in ("last.pt", "best.pt"))
    if not last.exists():
        return request
    remedy = "give the options that it started with, omit --recover to replace it, or give another --save-dir"
    try:
        require_identity(load_training_state(last, request.task), request.identity, last, remedy)
    except StateMismatch:
        if request.resume_from is None or not filecmp.cmp(last, request.resume_from, shallow=False):
            raise
        return request  # the interrupted call saved no state: last.pt is a copy of the file that it resumed
    return dataclasses.replace(
        request, resume_from=last, best_from=best if best.is_file() else None, recover=True
    )


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m include.training", description=__doc__)
    parser.add_argument("--data", type=Path, help="the dataset's YAML, or its folder for classify")
    parser.add_argument("--task", help="detect (default), segment, semantic, depth, classify, pose or obb")
    parser.add_argument(
        "--model",
        help="name or YAML of a model to train from scratch, or a .pt to start from; "
        "default: yolo26n for the task",
    )
    parser.add_argument(
        "--epochs", type=int, help="total number of epochs; default 100, or as in the resumed training run"
    )
    parser.add_argument(
        "--save-dir", type=Path, default=Path("runs/train"), help="folder for weights/; default runs/train"
    )
    parser.add_argument(
        "--device", help="auto (default: the first GPU, or else the CPU), cpu, mps, or GPU numbers (0 or 0,1)"
    )
    parser.add_argument(
        "--save-seconds",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="interval between saves within an epoch; a kill loses the work since the last save; default 60",
    )
    parser.add_argument(
        "--set",
        action="extend",
        nargs="+",
        default=[],
        type=_parse_pair,
        metavar="NAME=VALUE",
        help="any other training argument of Ultralytics, such as imgsz=320 mosaic=0.5 cos_lr=true",
    )
    _add_options_to_continue(parser)
    return parser


def _add_options_to_continue(parser: argparse.ArgumentParser) -> None:
    options = parser.add_argument_group("options to continue a training run")
    options.add_argument("--resume", type=Path, metavar="LAST", help="an unstripped last.pt to continue from")
    options.add_argument(
        "--best", type=Path, help="the best.pt that belongs to --resume; default: the one in the same folder"
    )
    options.add_argument(
        "--recover",
        action="store_true",
        help="continue an interrupted call that had the same arguments, if it left a state in --save-dir; "
        "without this option, a training run in that folder is replaced",
    )


def _parse_pair(text: str) -> tuple[str, Any]:
    """Parse NAME=VALUE; a value that is not valid JSON is taken as a string."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


if __name__ == "__main__":
    sys.exit(main())
