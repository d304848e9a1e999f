"""A trainer that is killed with SIGKILL again and again ends with the same bits as an uninterrupted one."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from include.training.__main__ import main
from include.training.loading import load_checkpoint
from include.training.run import build_trainer
from tests.support.killing import Attempt, Machine, Place, stop_when, wait_until
from tests.support.tiny_datasets import build
from tests.support.tiny_models import BATCHES, command
from tests.support.tiny_trainings import QUICK, Epochs, digests, request

EPOCHS = 18

PLACES = {
    "on_pretrain_routine_start": 0,
    "os.rename resumed.pt.part": 0,
    "on_pretrain_routine_end": 0,
    "on_train_batch_start": BATCHES,
    "on_train_batch_end": BATCHES,
    "on_train_epoch_end": 1,
    "on_val_start": 1,
    "on_val_batch_start": 1,
    "on_val_end": 1,
    "open results.csv": 1,  # before the epoch's row is in last.pt; or while a resumed run restores the file
    "os.rename last.pt.part": 1,
    "on_model_save": 1,
    "on_fit_epoch_end": 1,
}
"""How often per epoch a trainer reaches each place; 0 means only before the first epoch."""

AROUND_BEST = ["os.rename best.pt.part", "os.rename last.pt.part"]
"""The moments before best.pt and last.pt get their names; while the fitness is 0, each epoch is the best."""


class Killed:
    """One training run whose attempts are all killed, except the last; each may be on another machine.

    `start` starts an attempt, given its number, its machine and the place at which it must die. The next
    attempt continues from the file `last`. `rng` makes all random choices.
    """

    def __init__(self, start: Callable[[int, Machine, Place | None], Attempt], last: Path) -> None:
        self.seed = random.randrange(2**32)
        self.rng = random.Random(self.seed)
        self.start, self.last = start, last
        self.kills, self.saved = 0, -1

    def attempt(self, dies_at: Place | None = None) -> Attempt:
        """Start an attempt; it must use one thread like the first attempt, even if its machine allows two."""
        threads = 1 if self.saved < 0 else self.rng.choice((1, 2))
        return self.start(self.kills, Machine(threads, self.rng.choice((0, 0, 1, 2))), dies_at)

    def die_at(self, name: str, times: int | None = None) -> None:
        """Kill an attempt at a place, in its first epoch or in one of the next two."""
        often = PLACES.get(name, 0)
        if times is None:
            ahead = self.rng.randint(0, 2 if self.saved < EPOCHS - 12 else 0)
            times = self.rng.randint(1, max(often, 1)) + ahead * often
        with self.attempt(place := Place(name, times)) as attempt:
            self._account(attempt, str(place))

    def die_some_time(self) -> None:
        """Kill an attempt within its first two epochs or so."""
        with self.attempt() as attempt:
            wait_until(lambda: bool(attempt.begun), attempt.pid)
            time.sleep(seconds := self.rng.uniform(0, 0.3))
            attempt.kill()
            self._account(attempt, f"{seconds} s after it began")

    def die_while(self, name: str) -> None:
        """Kill an attempt while it writes the file `name` in the folder of last.pt."""
        with self.attempt() as attempt:
            stop_when(attempt.pid, self.last.with_name(f"{name}.{attempt.pid}.part").exists)
            attempt.kill()
            self._account(attempt, f"while {name} is written")

    def end(self) -> None:
        with self.attempt() as attempt:
            assert attempt.status() == 0, attempt.log.read_text()

    def _account(self, attempt: Attempt, where: str) -> None:
        """Check that the attempt continued from the last saved state, and lost at most an unfinished write.

        An epoch of this tiny model takes as long as writing its state, so two epochs may be lost.
        """
        place = f"seed {self.seed}, kill {self.kills}, {where}:\n"
        assert attempt.status() == -signal.SIGKILL, place + attempt.log.read_text()
        before, self.kills = self.saved, self.kills + 1
        self.saved = int(load_checkpoint(self.last)["epoch"]) if self.last.exists() else -1
        if begun := attempt.begun:
            assert begun == [*range(before + 1, begun[-1] + 1)], place
            assert begun[-1] - self.saved <= 2, place


def killed(folder: Path, epochs: int = EPOCHS) -> Killed:
    call = command(folder, epochs, "--recover", "--save-seconds", "0.1")  # saves states within most epochs

    def start(number: int, machine: Machine, dies_at: Place | None) -> Attempt:
        return Attempt(main, call, folder=folder / f"attempt-{number}", machine=machine, dies_at=dies_at)

    return Killed(start, folder / "run" / "weights" / "last.pt")


@pytest.fixture(scope="module")
def uninterrupted_digests(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    killed(folder).end()
    return digests(folder / "run")


@pytest.mark.long
def test_a_trainer_that_is_killed_at_random_ends_with_the_same_bits(
    uninterrupted_digests: dict[str, str], tmp_path: Path
) -> None:
    training = killed(tmp_path)
    for name in training.rng.sample(AROUND_BEST, 2):
        training.die_at(name, times=2)
    training.die_while("last.pt")
    for name in training.rng.sample([*PLACES, *[""] * 6], 4):  # tests/long makes a hundred kills
        if name:
            training.die_at(name)
        else:
            training.die_some_time()
    # One more validation than there are epochs left: the final one.
    training.die_at("on_val_start", times=EPOCHS - training.saved)
    assert training.saved == EPOCHS - 1
    training.die_at("on_val_batch_start", times=1)  # here and below: in the final validation
    training.die_at("on_val_end", times=1)
    training.end()
    assert training.kills >= 10
    assert digests(tmp_path / "run") == uninterrupted_digests, f"seed {training.seed}"


@pytest.fixture(scope="module")
def two_epochs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("two-epochs")
    killed(folder, epochs=2).end()
    return digests(folder / "run")


@pytest.mark.parametrize("place", [AROUND_BEST[0], pytest.param(AROUND_BEST[1], marks=pytest.mark.long)])
def test_a_kill_between_best_pt_and_last_pt_loses_neither(
    place: str, two_epochs: dict[str, str], tmp_path: Path
) -> None:
    training = killed(tmp_path, epochs=2)
    training.die_at(place, times=2)
    training.end()
    assert digests(tmp_path / "run") == two_epochs


def test_an_incomplete_decoded_image_left_by_a_kill_is_decoded_again(tmp_path: Path) -> None:
    data = build("classify", tmp_path / "data")
    call = ["--task", "classify", "--data", str(data), "--epochs", "2", "--device", "cpu", "--recover"]
    call += ["--save-dir", str(tmp_path / "run"), "--set", "imgsz=64", "batch=4", "plots=false", "cache=disk"]
    with Attempt(
        main, call, folder=tmp_path / "first", machine=Machine(1), dies_at=Place("on_val_end")
    ) as attempt:
        assert attempt.status() == -signal.SIGKILL, attempt.log.read_text()
    for split in ("train", "val"):
        decoded = next((data / split).rglob("*.npy"))
        decoded.write_bytes(decoded.read_bytes()[:1000])
    with Attempt(main, call, folder=tmp_path / "second", machine=Machine(1)) as attempt:
        assert attempt.status() == 0, attempt.log.read_text()


def test_images_whose_names_differ_only_in_the_suffix_are_decoded_separately(tmp_path: Path) -> None:
    training_request = request("classify", tmp_path, epochs=1, arguments=QUICK | {"cache": "disk"})
    image = next(training_request.data.glob("train/*/*.png"))
    cv2.imwrite(str(image.with_suffix(".bmp")), np.full((64, 64, 3), 255, np.uint8))
    with build_trainer(training_request, Epochs()) as trainer:
        trainer.train()
        for path, _, decoded, _ in trainer.train_loader.dataset.samples:
            np.testing.assert_array_equal(np.load(decoded), cv2.imread(path))
