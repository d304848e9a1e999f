"""No way of loading a file opens a connection, runs a program, changes a file or exhausts memory."""

from __future__ import annotations

import json
import os
import pickle
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
import torch
import ultralytics
from PIL import Image
from ultralytics import YOLO
from ultralytics.nn import tasks
from ultralytics.utils import YAML
from ultralytics.utils.torch_utils import strip_optimizer

from include.checkpoints.guard import SideEffect, reading_only
from include.checkpoints.inspection.architecture import check_architecture
from include.checkpoints.inspection.classes import TABLE
from include.checkpoints.inspection.derive_classes import derive
from include.checkpoints.inspection.errors import ForeignCode
from include.training.__main__ import main
from include.training.contract import TrainingError, TrainingResult, UnreadableCheckpoint
from include.training.evaluate import evaluate
from include.training.loading import load_checkpoint
from include.training.resume import restore
from include.training.run import train
from include.training.saving import save, strip
from tests.support import crafted_checkpoints as craft
from tests.support.crafted_checkpoints import call, crafted
from tests.support.tiny_trainings import Epochs, recovery, request

ROOT = Path(__file__).parents[3]


@pytest.fixture
def listener() -> Iterator[tuple[str, list[object]]]:
    """Yield the URL of a server that hostile files name, and the clients that have connected to it."""
    callers: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def listen() -> None:
            with suppress(OSError):
                while True:
                    connection, caller = server.accept()
                    callers.append(caller)
                    connection.close()

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/teacher.pt", callers
        server.shutdown(socket.SHUT_RDWR)
    thread.join()


LOADERS: dict[str, Callable[[Path, Path], object]] = {
    "a checkpoint": lambda file, _: load_checkpoint(file),
    "a model to start from": lambda file, folder: train(
        request("classify", folder, model=str(file)), Epochs()
    ),
    "pretrained weights": lambda file, folder: train(
        request("classify", folder, arguments={"pretrained": str(file)}), Epochs()
    ),
    "a teacher": lambda file, folder: train(
        request("classify", folder, arguments={"distill_model": str(file)}), Epochs()
    ),
    "a parent": lambda file, folder: train(request("classify", folder, resume_from=file), Epochs()),
    "an interrupted attempt": lambda file, folder: train(
        request("classify", folder, resume_from=file, recover=True), Epochs()
    ),
    "a model to measure": lambda file, folder: evaluate(file, folder, "classify"),
    "a model to deploy": lambda file, folder: strip(file, folder / "stripped.pt"),
    "Ultralytics' own loading": lambda file, _: tasks.load_checkpoint(file),
    "Ultralytics' safe loading": lambda file, _: tasks.torch_safe_load(file, safe_only=True),
    "Ultralytics' model": lambda file, _: YOLO(file),
}


@pytest.mark.parametrize("load", LOADERS.values(), ids=LOADERS)
def test_no_way_of_loading_uses_the_network(
    load: Callable[[Path, Path], object], listener: tuple[str, list[object]], tmp_path: Path
) -> None:
    url, callers = listener
    file = tmp_path / "best.pt"
    file.write_bytes(crafted(call("ultralytics.nn.distill_model.DistillationModel", url, craft.model())))
    with pytest.raises(TrainingError, match="can be loaded safely: it calls"):
        load(file, tmp_path)
    assert not callers
    with suppress(OSError):
        requests.get(url, timeout=10)
    assert callers, "the listener records no connections, so this test proves nothing"


@pytest.mark.parametrize("options", [["--model"], ["--resume"]])
def test_the_command_line_does_not_load_unsafe_files(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, data = tmp_path / "best.pt", tmp_path / "data.yaml"
    data.touch()
    file.write_bytes(crafted(call("os.system", f"touch {tmp_path / 'it-ran'}")))
    arguments = [
        *options,
        str(file),
        "--data",
        str(data),
        "--save-dir",
        str(tmp_path / "run"),
        "--device",
        "cpu",
    ]
    assert main(arguments) == 1
    assert "can be loaded safely: it names os.system" in capsys.readouterr().err
    assert not (tmp_path / "it-ran").exists()


def test_after_the_first_load_unsafe_functions_of_ultralytics_and_torch_are_blocked(tmp_path: Path) -> None:
    """In some places Ultralytics calls torch.load itself, and evaluates expressions in architectures."""
    good, evil, proof = tmp_path / "good.pt", tmp_path / "evil.pt", tmp_path / "it-ran"
    good.write_bytes(crafted())
    load_checkpoint(good)
    evil.write_bytes(crafted(call("os.system", f"touch {proof}")))
    assert strip_optimizer(evil) == {}
    with pytest.raises(pickle.UnpicklingError):
        torch.load(evil, weights_only=False)
    evaluated = {"nc": 1, "activation": f"open({str(proof)!r}, 'w')", "backbone": [], "head": []}
    with pytest.raises(TypeError, match="unsupported activation"):
        tasks.parse_model(evaluated, 3, verbose=False)
    assert not proof.exists()


def test_pytorch_loads_a_crafted_checkpoint(tmp_path: Path) -> None:
    file = tmp_path / "best.pt"
    file.write_bytes(crafted())
    state = load_checkpoint(file)
    assert state["model"].model[0].weight.shape == (3, 4, 3, 3)


ATTEMPTS: dict[str, Callable[[Path], object]] = {
    "a connection": lambda _: socket.create_connection(("127.0.0.1", 1)),
    "a process": lambda _: subprocess.run(["true"], check=True),
    "a shell": lambda _: os.system("true"),  # noqa: S605 - refused
    "a new file": lambda path: path.open("w"),
    "a changed file": lambda path: path.open("r+"),
    "a file by its flags": lambda path: os.open(path, os.O_RDWR | os.O_CREAT),
    "a folder": lambda path: path.mkdir(),
    "a link": lambda path: path.symlink_to("/etc/passwd"),
    "a removal": lambda path: path.unlink(),
    "a fork": lambda _: os.fork() or os._exit(0),
}


@contextmanager
def _other_error() -> Iterator[None]:
    """Turn any error into another one, as an unpickler might."""
    try:
        yield
    except OSError:
        raise ValueError("damaged") from None


@pytest.mark.parametrize("attempt", ATTEMPTS.values(), ids=ATTEMPTS)
@pytest.mark.parametrize("hide", [nullcontext, lambda: suppress(OSError), _other_error])
def test_side_effects_are_refused_while_a_file_is_loaded(
    attempt: Callable[[Path], object], hide: Callable[[], AbstractContextManager[None]], tmp_path: Path
) -> None:
    with pytest.raises(SideEffect), reading_only(), hide():  # noqa: PT012 - reading goes first
        assert Path(__file__).read_bytes()
        attempt(tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_other_threads_may_write_while_a_file_is_loaded(tmp_path: Path) -> None:
    ready, entered = threading.Event(), threading.Event()

    def write() -> None:
        entered.wait()
        (tmp_path / "file").write_text("written")
        ready.set()

    thread = threading.Thread(target=write)
    thread.start()
    with reading_only():
        entered.set()
        ready.wait()
    thread.join()
    assert (tmp_path / "file").read_text() == "written"


def test_the_table_of_allowed_classes_matches_the_installed_versions() -> None:
    assert json.loads(TABLE.read_text(encoding="utf-8")) == derive()


def test_every_architecture_of_ultralytics_is_accepted() -> None:
    found = sorted((Path(ultralytics.__file__).parent / "cfg" / "models").rglob("*.yaml"))
    refused = []
    for path in found:
        try:
            check_architecture(YAML.load(path))
        except ForeignCode:
            refused.append(path.name)
    assert len(found) > 50
    assert refused == ["yolo11-cls-resnet18.yaml"]  # this architecture fetches a model of torchvision


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("[-1, 1, Conv, [8192, 3, 2]]\n  - [-1, 20, Conv, [8192, 3, 1]]", "more than 500,000,000 parameters"),
        ("[-1, 1, Conv, [100000000, 3, 2]]", "nor a number up to"),
        ("[-1, 1, check_requirements, [evil]]", "describes a layer that is not part of torch.nn"),
    ],
    ids=["large by its layers", "large by a number", "a function"],
)
def test_an_architecture_is_built_only_within_bounds(row: str, why: str, tmp_path: Path) -> None:
    path = tmp_path / "large-cls.yaml"
    path.write_text(f"nc: 2\nbackbone:\n  - {row}\nhead:\n  - [-1, 1, Classify, [nc]]\n", encoding="utf-8")
    with pytest.raises(TrainingError, match=why):
        train(request("classify", tmp_path, model=str(path)), Epochs())


def test_a_description_that_is_larger_than_its_weights_is_not_built(tmp_path: Path) -> None:
    rows = [[-1, 1, "Conv", [2048, 3, 2]], [-1, 3, "Conv", [2048, 3, 1]]]
    description = craft.ARCHITECTURE | {"backbone": rows, "head": [[-1, 1, "Classify", ["nc"]]]}
    model = craft.model(path="ultralytics.nn.tasks.ClassificationModel", yaml=description)
    file = tmp_path / "small-cls.pt"
    file.write_bytes(crafted(model=model, train_args={"task": "classify"}))
    with pytest.raises(
        TrainingError, match=r"more than 50,000,216 parameters, but the initial weights have 108"
    ):
        train(request("classify", tmp_path, model=str(file)), Epochs())


@pytest.fixture(scope="module")
def training_and_result(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, TrainingResult]:
    training_request = request("classify", tmp_path_factory.mktemp("trained"), epochs=1)
    return training_request, train(training_request, Epochs())


CHANGED: dict[str, tuple[dict[str, Any], type[Exception] | None, str]] = {
    "a teacher by its path": (
        {"distill_model": "/etc/passwd"},
        TrainingError,
        "a path in a checkpoint is not trusted",
    ),
    "an argument of no training": (
        {"evil": "x", "augmentations": [{"__class_fullname__": "os.system"}]},
        None,
        "",
    ),
    "an argument that does not fit": (
        {"imgsz": "__import__('os')"},
        UnreadableCheckpoint,
        "in its train_args, imgsz=",
    ),
}


@pytest.mark.parametrize(("changes", "error", "why"), CHANGED.values(), ids=CHANGED)
@pytest.mark.parametrize("recover", [True, False])
def test_only_known_arguments_in_a_foreign_file_are_used(
    training_and_result: tuple[Any, TrainingResult],
    recover: bool,
    changes: dict[str, Any],
    error: type[Exception] | None,
    why: str,
    tmp_path: Path,
) -> None:
    training_request, result = training_and_result
    state = load_checkpoint(Path(result.last.path))
    state["train_args"] = {**state["train_args"], **changes}
    last = tmp_path / "last.pt"
    save(state, last)
    again = replace(
        recovery(training_request), save_dir=tmp_path / "run", best_from=None, recover=recover, epochs=2
    )
    if error is not None:
        with pytest.raises(error, match=why):
            restore(again, last)
        return
    restored = load_checkpoint(restore(again, last).path)["train_args"]
    assert not changes.keys() & restored.keys()
    assert restored["imgsz"] == state["train_args"]["imgsz"]


def test_the_documented_command_runs_safe_files_only(
    training_and_result: tuple[Any, TrainingResult], tmp_path: Path
) -> None:
    text = (ROOT / "docs" / "checkpoints.md").read_text(encoding="utf-8")
    lines = re.search(
        r"^python -m include\.checkpoints\.inspection best\.pt &&\n.*yolo predict .*$", text, re.MULTILINE
    )
    assert lines
    programs = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
    }
    environment |= {"YOLO_OFFLINE": "True", "YOLO_VERBOSE": "True", "YOLO_CONFIG_DIR": str(tmp_path)}

    def run(best: bytes) -> subprocess.CompletedProcess[str]:
        (tmp_path / "best.pt").write_bytes(best)
        return subprocess.run(
            ["bash", "-c", lines[0]],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    Image.new("RGB", (64, 64)).save(tmp_path / "image.jpg")
    good = run(Path(training_and_result[1].best.path).read_bytes())
    assert good.returncode == 0, good.stderr
    assert "Results saved" in good.stdout
    proof = tmp_path / "it-ran"
    assert run(crafted(call("os.system", f"touch {proof}"))).returncode == 1
    assert not proof.exists()
