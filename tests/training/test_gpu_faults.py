"""Faults that occur on GPUs and on busy machines, reproduced on a CPU."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import pytest
import torch
from ultralytics.models.yolo.detect import DetectionValidator
from ultralytics.utils import nms
from ultralytics.utils.torch_utils import unwrap_model

from include.training import exact
from include.training.contract import GpuLost, MemoryTaken, TrainingError, TrainingRequest
from include.training.loading import load_checkpoint
from include.training.plan import require_bfloat16
from include.training.profile import list_differences, read_numeric_profile
from include.training.quiet import tame_ultralytics
from include.training.resume import restore
from include.training.run import build_trainer, train
from tests.support.tiny_models import architecture
from tests.support.tiny_trainings import Epochs, GivesUp, recovery, request, train_with, weights_of

ROOT = Path(__file__).parents[2]
SETTINGS: dict[str, Any] = {"imgsz": 64, "batch": 4, "nbs": 12, "plots": False}


def make_request(folder: Path) -> TrainingRequest:
    return request(
        "detect",
        folder,
        images=18,
        model=str(folder / "tiny.yaml") if (folder / "tiny.yaml").exists() else architecture(folder),
        epochs=4,
        save_dir=folder / "run",
        arguments=SETTINGS,
        identity={"job": "a"},
    )


def out_of_memory(trainer: Any) -> None:
    raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.fixture(scope="module")
def after_two_epochs(tmp_path_factory: pytest.TempPathFactory) -> TrainingRequest:
    """Interrupt a training run after two epochs; return its request."""
    wanted = make_request(tmp_path_factory.mktemp("after-two-epochs"))
    with pytest.raises(GivesUp.Enough):
        train(wanted, GivesUp(after=2))
    return wanted


@pytest.fixture
def interrupted(after_two_epochs: TrainingRequest, tmp_path: Path) -> TrainingRequest:
    """Return the request of a run that was interrupted after two epochs, in a folder of this test."""
    shutil.copytree(after_two_epochs.save_dir, tmp_path / "run")
    return replace(after_two_epochs, save_dir=tmp_path / "run")


def no_memory_for_cublas(trainer: Any) -> None:
    raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")


def no_memory_for_cudnn(trainer: Any) -> None:
    raise RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED")


def no_memory_for_an_algorithm(trainer: Any) -> None:
    raise RuntimeError("GET was unable to find an engine to execute this computation")


@pytest.mark.parametrize(
    "fault", [out_of_memory, no_memory_for_cublas, no_memory_for_cudnn, no_memory_for_an_algorithm]
)
def test_a_batch_size_that_has_fitted_before_is_not_halved_after_a_resume(
    fault: Callable[[Any], None], interrupted: TrainingRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    with build_trainer(recovery(interrupted), Epochs()) as trainer:
        monkeypatch.setattr(trainer, "preprocess_batch", fault)
        with pytest.raises(
            MemoryTaken, match=r"batch=4 and imgsz=64, although epochs have already been trained with these"
        ):
            trainer.train()
        assert trainer.batch_size == 4


def test_an_attempt_that_only_validates_measures_in_half_precision_like_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = replace(make_request(tmp_path), epochs=1)
    train(wanted, Epochs())
    with build_trainer(recovery(wanted), Epochs()) as trainer:
        trainer._setup_train()
        monkeypatch.setattr(trainer, "amp", True)
        monkeypatch.setattr(trainer, "device", torch.device("cuda"))
        monkeypatch.setattr(type(trainer.validator), "__call__", lambda *_, **__: {})
        trainer.final_eval()
        assert trainer.validator.args.quantize == 16


def test_a_larger_batch_than_before_may_be_halved(
    interrupted: TrainingRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    larger = TrainingRequest(
        **(vars(recovery(interrupted)) | {"recover": False, "arguments": {"batch": 16}, "epochs": 5})
    )
    with build_trainer(larger, Epochs()) as trainer:
        monkeypatch.setattr(trainer, "preprocess_batch", out_of_memory)
        with pytest.raises(TrainingError, match="ran out of memory with batch=2 and"):
            trainer.train()


def test_a_batch_size_that_fitted_another_device_may_be_halved(
    interrupted: TrainingRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    with build_trainer(recovery(interrupted), Epochs()) as trainer:
        monkeypatch.setattr(exact, "read_numeric_profile", lambda _: {"device": "NVIDIA L4", "threads": 1})
        monkeypatch.setattr(trainer, "preprocess_batch", out_of_memory)
        with pytest.raises(TrainingError, match="ran out of memory with batch=1 and"):
            trainer.train()


@pytest.mark.parametrize(
    "message",
    [
        "CUDA error: uncorrectable ECC error encountered\nSearch for `cudaErrorECCUncorrectable' in the docs",
        "CUDA error: unspecified launch failure",
        "NCCL error in: nccl.cpp:1\nLast error:\nCuda failure 214 'uncorrectable ECC error encountered'",
    ],
)
def test_a_gpu_that_fails_is_an_interruption(
    message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise torch.AcceleratorError(message)

    with build_trainer(make_request(tmp_path), Epochs()) as trainer:
        monkeypatch.setattr(trainer, "preprocess_batch", fail)
        monkeypatch.setattr(trainer, "_clear_memory", fail)  # every later call of CUDA fails, too
        with pytest.raises(GpuLost, match=r"^A GPU of this machine has failed or is not available \(un"):
            trainer.train()


def test_a_lack_of_host_memory_is_not_blamed_on_the_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        monkeypatch.setattr(trainer, "device", torch.device("cuda:0"))
        raise MemoryError("Caught MemoryError in DataLoader worker process 0.")

    with build_trainer(make_request(tmp_path), Epochs()) as trainer:
        monkeypatch.setattr(trainer, "preprocess_batch", fail)
        monkeypatch.setattr(trainer, "_clear_memory", lambda: None)
        with pytest.raises(TrainingError, match=r"^this machine ran out of memory .*, or set fewer workers"):
            trainer.train()


def test_a_device_without_bfloat16_is_refused(tmp_path: Path) -> None:
    wanted = make_request(tmp_path)
    wanted = replace(wanted, arguments={**wanted.arguments, "amp": "bf16"})
    with pytest.raises(TrainingError, match=r"^amp=bf16 does not work on cpu; give amp=fp16"):
        train(wanted, Epochs())


def test_a_run_in_bfloat16_continues_on_a_machine_with_a_newer_gpu(
    interrupted: TrainingRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla T4")
    with pytest.raises(
        GpuLost, match=r"^amp=bf16 does not work on cuda:0 \(Tesla T4\): the training run con"
    ):
        require_bfloat16(torch.device("cuda:0"), recovery(interrupted))


def test_a_run_in_bfloat16_is_not_continued_on_a_cpu(interrupted: TrainingRequest) -> None:
    last = interrupted.save_dir / "weights" / "last.pt"
    state = load_checkpoint(last)
    state["train_args"]["amp"] = "bf16"
    torch.save(state, last)
    with pytest.raises(TrainingError, match=r"^amp=bf16 does not work on cpu, .*: omit device=cpu$"):
        train(recovery(interrupted), Epochs())


def test_an_assertion_on_the_device_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    with build_trainer(make_request(tmp_path), Epochs()) as trainer:
        monkeypatch.setattr(trainer, "preprocess_batch", fail)
        with pytest.raises(torch.AcceleratorError, match="device-side assert"):
            trainer.train()


def train_with_a_loader_worker(folder: Path) -> None:
    """Train, and print the class and the message of the error."""
    try:
        train_with(1, make_request(folder), Epochs())
    except Exception as error:
        print(f"{type(error).__name__}: {error}")


def test_shared_memory_that_is_full_is_named(tmp_path: Path) -> None:
    with_little_memory = ["unshare", "--map-root-user", "--mount", "sh", "-ec"]
    mount = "mount -t tmpfs -o size=100k tmpfs /dev/shm"
    try:
        subprocess.run([*with_little_memory, mount], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"cannot mount a file system: {error}")
    code = "import pathlib, sys, tests.training.test_gpu_faults as f; f.{}(pathlib.Path(sys.argv[1]))"
    command = [sys.executable, "-c", code.format(train_with_a_loader_worker.__name__), str(tmp_path)]
    ended = subprocess.run(
        [*with_little_memory, f'{mount}; exec "$@"', "sh", *command],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert "DiskError: Shared memory (/dev/shm), which loader workers" in ended.stdout, ended.stderr


class NanOnce:
    """Makes the loss of the last batch of an epoch NaN in the first pass through that epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch, self.done = epoch, False

    def __call__(self, trainer: Any) -> None:
        if trainer.epoch == self.epoch and not self.done:
            self.done = True
            trainer.loss = torch.tensor(float("nan"))


def train_with_nan(wanted: TrainingRequest, reporter: Any) -> list[float]:
    """Train with a NaN in epoch 1; return the weight of the first head's loss in each epoch."""
    weights: dict[int, float] = {}
    with build_trainer(wanted, reporter) as trainer:
        trainer.add_callback("on_train_epoch_end", NanOnce(1))
        trainer.add_callback(
            "on_train_batch_end", lambda t: weights.update({t.epoch: unwrap_model(t.model).criterion.o2m})
        )
        trainer.train()
    return list(weights.values())


def test_the_loss_weights_are_correct_after_a_repeated_epoch(tmp_path: Path) -> None:
    model = Path(architecture(tmp_path))
    model.write_text(f"end2end: true\n{model.read_text()}")  # two heads, as in YOLO26
    wanted = make_request(tmp_path)
    weights = train_with_nan(wanted, Epochs())
    assert weights == pytest.approx([0.8 - epoch * 0.7 / 3 for epoch in range(4)])
    whole = weights_of(wanted.save_dir / "weights" / "last.pt")
    with pytest.raises(GivesUp.Enough):
        train_with_nan(wanted, GivesUp(after=2))
    train(recovery(wanted), Epochs())
    assert weights_of(wanted.save_dir / "weights" / "last.pt") == whole


def test_boxes_are_found_in_every_image_however_slow_the_machine_is(monkeypatch: pytest.MonkeyPatch) -> None:
    tame_ultralytics()
    ticks = itertools.count(step=1000)
    monkeypatch.setattr(nms, "time", SimpleNamespace(time=lambda: next(ticks)))
    validator = DetectionValidator(args={"task": "detect", "conf": 0.1, "iou": 0.7})
    validator.end2end, validator.nc = False, 2
    torch.manual_seed(0)
    found = validator.postprocess(torch.rand(3, 4 + 2, 50))
    assert [len(each["conf"]) > 0 for each in found] == [True, True, True]


def test_a_value_that_an_older_state_lacks_is_not_a_difference() -> None:
    now = read_numeric_profile(torch.device("cpu"))
    before = {name: value for name, value in now.items() if name != "opencv"}
    assert list_differences(before, now) == []
    assert list_differences(before | {"numpy": "1.0"}, now) == [f"numpy {now['numpy']} instead of 1.0"]


def test_the_profile_of_a_gpu_run_includes_the_cpu_that_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    on_cpu = read_numeric_profile(torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H100")
    on_gpu = read_numeric_profile(torch.device("cuda:0"))
    assert on_gpu["device"] == "NVIDIA H100"
    assert on_gpu["cpu"] == on_cpu["device"]
    assert on_gpu["instructions"] == torch.backends.cpu.get_cpu_capability()
    assert str(on_gpu["opencv"]).endswith(cv2.getCPUFeaturesLine())


def test_a_run_resumed_on_a_gpu_after_a_cpu_gets_loader_workers(interrupted: TrainingRequest) -> None:
    moved = replace(recovery(interrupted), device="0")
    assert moved.resume_from is not None
    assert load_checkpoint(moved.resume_from)["train_args"]["workers"] == 0
    assert "workers" not in load_checkpoint(restore(moved, moved.resume_from).path)["train_args"]
    with_workers = replace(moved, arguments={"workers": 3})
    assert load_checkpoint(restore(with_workers, moved.resume_from).path)["train_args"]["workers"] == 3


def test_an_interrupted_run_frees_its_models_before_its_caller_continues(tmp_path: Path) -> None:
    with build_trainer(make_request(tmp_path), GivesUp(after=1)) as trainer:
        trainer.add_callback("on_train_start", lambda t: held.extend(map(weakref.ref, (t.model, t.ema.ema))))
        held: list[weakref.ref[Any]] = []
        with pytest.raises(GivesUp.Enough) as enough:
            trainer.train()
        assert held
        assert [reference() for reference in held] == [None, None]
        assert enough.value.__traceback__ is not None  # a handler can still see where the error was raised
