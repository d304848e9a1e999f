"""Controls the local stack from the command line; the Makefile calls it. `python -m include.stack --help`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from include.plain_text import escape_controls
from include.stack.datasets import upload_dataset
from include.stack.demo import resume, run_demo
from include.stack.errors import StackError
from include.stack.local import STATE, Stack
from include.stack.overview import describe_services, render_exports
from include.stack.rotation import rotate
from include.stack.state import StateFolder
from include.stack.steps import Steps
from include.stack.weights import store_weights

INTERRUPTED = 130
"""The exit status of a program that was interrupted with Ctrl-C."""


def main() -> int:
    """Run one command; return the exit status."""
    arguments = _parse_arguments()
    try:
        _run(arguments)
    except StackError as error:
        print(f"\n{escape_controls(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "\nInterrupted. Services that have started keep running: `make status` shows them, `make down` "
            "stops them.",
            file=sys.stderr,
        )
        return INTERRUPTED
    return 0


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m include.stack", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("demo", help="start everything and train once on the bundled digits")
    continued = commands.add_parser("resume", help="continue a finished job from its last.pt, as a new job")
    continued.add_argument("job", help="the id of the finished job")
    continued.add_argument("epochs", type=int, help="total number of epochs")
    weights = commands.add_parser("pretrained", help="store a file of pretrained weights in the bucket")
    weights.add_argument("file", type=Path, help="an Ultralytics .pt file, such as yolo26n.pt")
    dataset = commands.add_parser("dataset", help="upload a dataset and register it as a version")
    dataset.add_argument("file", type=Path, help="a .zip, or a folder")
    dataset.add_argument("name", help="the dataset's name; an existing dataset gets a new version")
    dataset.add_argument("task", help="the dataset's task, such as detect")
    commands.add_parser("up", help="start PostgreSQL, S3 and Airflow")
    commands.add_parser("down", help="stop PostgreSQL, S3 and Airflow; the data are kept")
    commands.add_parser(
        "rotate", help="replace all secrets except the key that signs models; training runs resume"
    )
    commands.add_parser("status", help="show which services run, and where")
    commands.add_parser("env", help="print shell commands that export the running stack's variables")
    commands.add_parser("logs", help="follow the logs of all services")
    return parser.parse_args()


def _run(arguments: argparse.Namespace) -> None:
    steps = Steps()
    match arguments.command:
        case "demo":
            run_demo(Stack.at(STATE), steps)
        case "resume":
            resume(Stack.at(STATE), steps, arguments.job, arguments.epochs)
        case "up":
            Stack.at(STATE).up(steps)
        case _ if StateFolder(STATE).exists():
            _use(Stack.at(STATE), steps, arguments)
        case _:
            raise StackError(
                "The stack has never been started here. Start it with `make up`, or see it work with "
                "`make demo`."
            )


def _use(stack: Stack, steps: Steps, arguments: argparse.Namespace) -> None:
    """Run a command that needs a stack that has been started before."""
    match arguments.command:
        case "down":
            stack.down(steps)
        case "rotate":
            rotate(stack, steps)
            steps.say('Exported variables are out of date. Export them again: eval "$(make -s env)"')
        case "status":
            for name, state in describe_services(stack).items():
                steps.say(f"{name}: {state}")
        case "env":
            stack.require_running()
            print("\n".join(render_exports(stack)))
        case "logs":
            _follow_logs(stack)
        case "pretrained":
            store_weights(stack, steps, arguments.file)
        case "dataset":
            upload_dataset(stack, steps, arguments.file, arguments.name, arguments.task)


def _follow_logs(stack: Stack) -> None:
    logs = sorted(str(log) for log in (stack.state.path / "logs").glob("*.log"))
    print(f"The logs of tasks are in {stack.airflow.home / 'logs'}.", flush=True)
    os.execvp("tail", ["tail", "-n", "20", "-F", *logs])  # noqa: S606 - tail takes over this process


if __name__ == "__main__":
    sys.exit(main())
