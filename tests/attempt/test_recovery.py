"""An attempt continues from the newest intact state of its run, and never silently starts over."""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from include.attempt.starting_point import Recovery, StartingPoint
from include.checkpoints.checkpoint import Checkpoint
from include.checkpoints.errors import CheckpointNotFound
from include.checkpoints.keys import BEST_EPOCH, EXACT
from include.checkpoints.store import CheckpointStore
from include.claim.resolved_job import ResolvedJob, ResumePoint
from include.deployment.retrying import is_transient
from include.jobs.spec import TrainingSpec
from include.s3.bucket import Bucket
from include.s3.errors import CorruptObject, FencedOut, StoreError
from include.training.contract import EpochReport, StateMismatch
from include.training.loading import load_checkpoint
from include.training.resume import restore
from include.training.run import train
from include.training.saving import save, strip
from tests.support.tiny_trainings import request, weights_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_s3 import S3Client

    from include.checkpoints.checkpoint import CheckpointKind, Position
    from include.s3.layout import StoredKind

JOB = ResolvedJob(
    job_id="job",
    dag_id="train_yolo",
    run_id="manual__1",
    origin_run_id="manual__1",
    spec=TrainingSpec(task="classify", dataset="/data", imgsz=64, epochs=3).with_defaults(),
)


class Keeps:
    """An EpochReporter that copies the state of each epoch to a folder."""

    def __init__(self, last: Path, folder: Path) -> None:
        self.last, self.folder = last, folder

    def report(self, epoch: EpochReport) -> bool:
        shutil.copy(self.last, self.folder / f"{epoch.epoch}.pt")
        return True


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the states of JOB after epochs 0, 1 and 2 (0.pt, 1.pt, 2.pt), and a best.pt."""
    folder = tmp_path_factory.mktemp("states")
    training_request = request("classify", folder, epochs=3, identity=JOB.identity())
    train(training_request, Keeps(training_request.save_dir / "weights" / "last.pt", folder))
    strip(folder / "0.pt", folder / "best.pt")
    return folder


@dataclass
class Machine:
    """The folders of one machine, and the bucket."""

    folder: Path
    client: S3Client
    bucket: str

    @property
    def weights(self) -> Path:
        return self.folder / "weights"

    def store(self, run_id: str = "manual__1") -> CheckpointStore:
        return CheckpointStore(Bucket(self.client, self.bucket), run_id=run_id)

    def begin(
        self, attempt: int = 2, durable: Position | None = None, job: ResolvedJob = JOB, **identity: Any
    ) -> StartingPoint:
        inputs = self.folder / "inputs"
        inputs.mkdir(parents=True, exist_ok=True)
        found = Recovery(
            job, job.identity() | identity, attempt, self.store(job.origin_run_id), inputs, self.weights
        )
        return found.find_starting_point(durable)

    def epoch_of(self, kind: StoredKind) -> int:
        """Return the epoch of the checkpoint in S3."""
        stored = self.store().head("job", kind)
        assert stored is not None
        assert stored.checkpoint is not None
        return stored.checkpoint.epoch

    def put_back(self, name: str, states: Path) -> None:
        """Overwrite last.pt with an older state, as an unconditional write would."""
        self.client.delete_object(Bucket=self.bucket, Key="checkpoints/job/last.pt")
        older = Checkpoint.of_file(states / name, int(name.removesuffix(".pt")))
        self.store().upload(older, "job", "last", "8.4")

    def flip_a_byte(self, key: str) -> None:
        """Damage the object at rest: change a byte, and keep the metadata."""
        stored = self.client.get_object(Bucket=self.bucket, Key=key)
        content = bytearray(stored["Body"].read())
        content[len(content) // 2] ^= 1
        self.client.put_object(Bucket=self.bucket, Key=key, Body=bytes(content), Metadata=stored["Metadata"])


@pytest.fixture
def worker_machine(tmp_path: Path, s3_client: S3Client, bucket: str) -> Machine:
    return Machine(tmp_path, s3_client, bucket)


@pytest.fixture
def store_states(worker_machine: Machine, states: Path) -> Callable[..., None]:
    """Return a function that stores the states of some epochs one after the other, as an attempt does."""

    def store(*epochs: int, job_id: str = "job", run_id: str = "manual__1") -> None:
        writer = worker_machine.store(run_id)
        files: list[tuple[str, int, CheckpointKind]] = [("best.pt", 0, "best")]
        files += [(f"{epoch}.pt", epoch, "last") for epoch in epochs]
        for name, epoch, kind in files:
            writer.upload(Checkpoint.of_file(states / name, epoch), job_id, kind, "8.4")

    return store


def test_a_new_job_begins_at_the_start(worker_machine: Machine) -> None:
    assert worker_machine.begin(attempt=1) == StartingPoint()


def test_another_machine_continues_from_the_state_in_s3(
    worker_machine: Machine, store_states: Callable[..., None], states: Path
) -> None:
    store_states(0, 1)
    beginning = worker_machine.begin(durable=(1, 0))
    assert (beginning.epoch, beginning.is_own) == (1, True)
    assert beginning.last is not None
    assert weights_of(beginning.last) == weights_of(states / "1.pt")
    assert beginning.best is not None
    assert beginning.best.read_bytes() == (states / "best.pt").read_bytes()


def test_after_a_takeover_the_older_attempt_is_refused_and_the_previous_generation_is_kept(
    worker_machine: Machine, store_states: Callable[..., None], states: Path
) -> None:
    store_states(0, 1)
    older = worker_machine.store()
    older.head("job", "last")
    worker_machine.begin(attempt=7)
    with pytest.raises(FencedOut):
        older.upload(Checkpoint.of_file(states / "2.pt", 2), "job", "last", "8.4")
    worker_machine.client.download_file(
        worker_machine.bucket, "checkpoints/job/last.pt", str(worker_machine.folder / "now.pt")
    )
    assert load_checkpoint(worker_machine.folder / "now.pt")[EXACT]["attempt"] == 7
    assert worker_machine.epoch_of("last.previous") == 0


def test_a_concurrent_write_by_an_older_attempt_is_detected(
    worker_machine: Machine, store_states: Callable[..., None], states: Path
) -> None:
    store_states(0)
    store = worker_machine.store()
    store.head("job", "last")
    store_states(1)
    inputs = worker_machine.folder / "inputs"
    inputs.mkdir()
    with pytest.raises(FencedOut):
        Recovery(JOB, JOB.identity(), 2, store, inputs, worker_machine.weights).find_starting_point((0, 0))


@pytest.fixture
def local(worker_machine: Machine, states: Path) -> Path:
    """Leave a last.pt of epoch 2 and its best.pt, neither of which is in S3, on the machine."""
    worker_machine.weights.mkdir()
    shutil.copy(states / "2.pt", worker_machine.weights / "last.pt")
    best = load_checkpoint(states / "2.pt")[EXACT][BEST_EPOCH]
    shutil.copy(states / f"{best}.pt", worker_machine.weights / "best.pt")
    return worker_machine.weights


def test_a_newer_state_on_this_machine_is_preferred_and_stored_with_its_best(
    worker_machine: Machine, store_states: Callable[..., None], local: Path
) -> None:
    store_states(0)
    beginning = worker_machine.begin(durable=(0, 0))
    assert (beginning.epoch, beginning.best) == (2, local / "best.pt")
    assert worker_machine.epoch_of("last") == 2
    assert worker_machine.epoch_of("best") == load_checkpoint(local / "best.pt")["epoch"]


def test_a_stripped_best_pt_is_stored_unchanged(worker_machine: Machine, local: Path) -> None:
    strip(local / "best.pt", local / "best.pt")
    content = (local / "best.pt").read_bytes()
    worker_machine.begin()
    stored = worker_machine.client.get_object(Bucket=worker_machine.bucket, Key="checkpoints/job/best.pt")
    assert stored["Body"].read() == content


def test_a_local_best_pt_older_than_the_best_epoch_of_the_state_is_not_used(
    worker_machine: Machine, store_states: Callable[..., None], local: Path
) -> None:
    store_states(0)
    state = load_checkpoint(local / "last.pt")
    state[EXACT][BEST_EPOCH] = 2
    save(state, local / "last.pt")
    strip(local / "best.pt", local / "best.pt")
    outdated = load_checkpoint(local / "best.pt")
    outdated[BEST_EPOCH] = 1
    save(outdated, local / "best.pt")
    assert worker_machine.begin(durable=(0, 0)).best == worker_machine.folder / "inputs" / "best.pt"


@pytest.mark.parametrize("name", ["last.pt", "best.pt"])
def test_a_local_file_damaged_by_a_power_cut_is_not_used(
    name: str, worker_machine: Machine, store_states: Callable[..., None], local: Path
) -> None:
    store_states(0)
    content = bytearray((local / name).read_bytes())
    content[len(content) // 2 : len(content) // 2 + 64] = bytes(64)
    (local / name).write_bytes(content)
    beginning = worker_machine.begin(durable=(0, 0))
    assert beginning.epoch == (0 if name == "last.pt" else 2)
    assert beginning.best == worker_machine.folder / "inputs" / "best.pt"


def test_an_older_state_on_this_machine_is_not_used(
    worker_machine: Machine, store_states: Callable[..., None], states: Path
) -> None:
    store_states(0, 1)
    worker_machine.weights.mkdir()
    shutil.copy(states / "0.pt", worker_machine.weights / "last.pt")
    assert worker_machine.begin().epoch == 1


def test_a_state_that_is_also_on_this_machine_is_not_fetched(
    worker_machine: Machine, store_states: Callable[..., None], states: Path
) -> None:
    store_states(0, 1)
    worker_machine.weights.mkdir()
    shutil.copy(states / "1.pt", worker_machine.weights / "last.pt")
    beginning = worker_machine.begin(durable=(1, 0))
    assert (beginning.epoch, beginning.last) == (1, worker_machine.weights / "last.pt")
    assert not (worker_machine.folder / "inputs" / "last.pt").exists()
    assert worker_machine.epoch_of("last.previous") == 0


@pytest.mark.parametrize("content", [b"", b"no checkpoint"])
def test_a_local_file_that_is_not_a_checkpoint_is_ignored(
    worker_machine: Machine, store_states: Callable[..., None], content: bytes
) -> None:
    store_states(0)
    worker_machine.weights.mkdir()
    (worker_machine.weights / "last.pt").write_bytes(content)
    assert worker_machine.begin().epoch == 0


@pytest.mark.usefixtures("reread_at_once")
def test_a_damaged_last_pt_is_noticed_and_the_previous_generation_is_used(
    worker_machine: Machine, store_states: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    store_states(0, 1)
    worker_machine.flip_a_byte("checkpoints/job/last.pt")
    beginning = worker_machine.begin(durable=(1, 0))
    assert beginning.epoch == 0
    assert "last.pt is damaged" in caplog.text
    assert "Going back to" in caplog.text
    assert worker_machine.epoch_of("last.previous") == 0  # not the damaged generation
    assert worker_machine.begin(attempt=3).epoch == 0


def test_a_missing_last_pt_is_replaced_by_the_previous_generation(
    worker_machine: Machine, store_states: Callable[..., None]
) -> None:
    store_states(0, 1)
    worker_machine.client.delete_object(Bucket=worker_machine.bucket, Key="checkpoints/job/last.pt")
    assert worker_machine.begin(durable=(1, 0)).epoch == 0


@pytest.mark.usefixtures("reread_at_once")
def test_two_damaged_generations_are_an_error_and_not_a_new_start(
    worker_machine: Machine, store_states: Callable[..., None]
) -> None:
    store_states(0, 1)
    worker_machine.flip_a_byte("checkpoints/job/last.pt")
    worker_machine.flip_a_byte("checkpoints/job/last.previous.pt")
    message = r"no undamaged previous generation either: restore last\.pt or last\.previous\.pt .*fresh"
    with pytest.raises(CorruptObject, match=message):
        worker_machine.begin(durable=(1, 0))


def test_a_lost_state_is_an_error_and_not_a_new_start(worker_machine: Machine) -> None:
    with pytest.raises(CheckpointNotFound, match=r"stored its state after epoch 2, but .* is gone"):
        worker_machine.begin(durable=(1, 0))


@pytest.mark.usefixtures("reread_at_once")
def test_no_epoch_is_lost_if_best_pt_is_damaged(
    worker_machine: Machine, store_states: Callable[..., None]
) -> None:
    store_states(0, 1)
    worker_machine.flip_a_byte("checkpoints/job/best.pt")
    beginning = worker_machine.begin()
    assert (beginning.epoch, beginning.best) == (1, None)


def test_other_parameters_are_refused_with_their_differences(
    worker_machine: Machine, store_states: Callable[..., None]
) -> None:
    store_states(0)
    with pytest.raises(
        StateMismatch, match=r"batch was None and is 8\); give the parameters that it started"
    ):
        worker_machine.begin(batch=8)


def test_the_states_of_an_earlier_run_with_the_same_job_id_are_not_used(
    worker_machine: Machine, store_states: Callable[..., None]
) -> None:
    store_states(0, 1, run_id="manual__0")
    assert worker_machine.begin(attempt=1) == StartingPoint()


def child_of(states: Path, epoch: int) -> ResolvedJob:
    """Return a job that continues a parent with the state of that epoch."""
    last = Checkpoint.of_file(states / f"{epoch}.pt", epoch)
    best = Checkpoint.of_file(states / "best.pt", 0)
    return JOB.model_copy(update={"resume": ResumePoint(job_id="parent", last=last, best=best)})


def test_a_child_begins_with_its_parents_state_in_its_own_prefix(
    worker_machine: Machine, store_states: Callable[..., None], states: Path
) -> None:
    store_states(0, 1, job_id="parent", run_id="manual__0")
    child = child_of(states, 1)
    beginning = worker_machine.begin(attempt=1, job=child)
    assert (beginning.epoch, beginning.is_own) == (1, False)
    for kind in ("best", "last"):  # a second crash loses nothing, even if the parent's objects are gone
        worker_machine.client.delete_object(Bucket=worker_machine.bucket, Key=f"checkpoints/parent/{kind}.pt")
    again = worker_machine.begin(attempt=2, durable=(1, 0), job=child)
    assert again == beginning
    assert again.last is not None
    assert weights_of(again.last) == weights_of(states / "1.pt")


def test_a_child_that_was_killed_after_its_first_best_pt_continues(
    worker_machine: Machine, store_states: Callable[..., None], states: Path
) -> None:
    store_states(0, 1, job_id="parent", run_id="manual__0")
    child = child_of(states, 1)
    worker_machine.begin(attempt=1, job=child)
    own = worker_machine.folder / "own.pt"
    strip(states / "2.pt", own)
    worker_machine.store().upload(Checkpoint.of_file(own, 2), "job", "best", "8.4")
    beginning = worker_machine.begin(attempt=2, durable=(1, 0), job=child)
    assert (beginning.epoch, beginning.is_own) == (1, False)
    assert beginning.best is not None
    assert beginning.best.read_bytes() == own.read_bytes()


def test_a_child_whose_last_pt_was_overwritten_with_its_parents_continues_from_the_previous_generation(
    worker_machine: Machine, store_states: Callable[..., None], states: Path
) -> None:
    store_states(0, job_id="parent", run_id="manual__0")
    child = child_of(states, 0)
    worker_machine.begin(attempt=1, job=child)
    store_states(1, 2)
    worker_machine.put_back("0.pt", states)
    beginning = worker_machine.begin(attempt=2, durable=(2, 0), job=child)
    assert (beginning.epoch, beginning.is_own) == (1, True)
    assert worker_machine.epoch_of("last") == 1


def test_a_last_pt_overwritten_with_an_older_state_is_not_preferred_to_the_previous_generation(
    worker_machine: Machine, store_states: Callable[..., None], states: Path
) -> None:
    store_states(0, 1, 2)
    worker_machine.put_back("0.pt", states)
    assert worker_machine.begin(attempt=2, durable=(2, 0)).epoch == 1
    assert worker_machine.epoch_of("last") == 1
    assert worker_machine.epoch_of("last.previous") == 1  # not the older state


def test_a_child_that_lost_its_own_epochs_does_not_start_over_silently(
    worker_machine: Machine, store_states: Callable[..., None], states: Path
) -> None:
    store_states(0, 1, job_id="parent", run_id="manual__0")
    parent = ResumePoint(job_id="parent", last=Checkpoint.of_file(states / "1.pt", 1), best=None)
    with pytest.raises(CheckpointNotFound, match="stored its state after epoch 51"):
        worker_machine.begin(durable=(50, 0), job=JOB.model_copy(update={"resume": parent}))


def test_the_metrics_of_every_finished_epoch_come_with_the_state(
    worker_machine: Machine, store_states: Callable[..., None]
) -> None:
    store_states(0, 1)
    finished = worker_machine.begin().finished
    assert [epoch for epoch, _, _ in finished] == [0, 1]
    assert all(metrics["train/loss"] is not None for _, metrics, _ in finished)


@pytest.mark.parametrize("at_stake", ["in S3", "on this machine", "nothing"])
def test_a_missing_bucket_is_a_final_error_only_if_no_state_could_be_lost(
    worker_machine: Machine, at_stake: str
) -> None:
    worker_machine.bucket = f"{worker_machine.bucket}-gone"
    if at_stake == "on this machine":
        worker_machine.weights.mkdir()
        (worker_machine.weights / "last.pt").touch()
    with pytest.raises(StoreError, match="CHECKPOINT_BUCKET") as caught:
        worker_machine.begin(durable=(3, 0) if at_stake == "in S3" else None)
    assert is_transient(caught.value) == (at_stake != "nothing")


def test_the_best_pt_of_a_run_without_validation_is_made_from_its_state(
    worker_machine: Machine, states: Path
) -> None:
    state = load_checkpoint(states / "1.pt")
    state["best_fitness"] = None
    state["train_metrics"]["fitness"] = None
    state[EXACT][BEST_EPOCH] = 1
    save(state, worker_machine.folder / "state.pt")
    worker_machine.store().upload(
        Checkpoint.of_file(worker_machine.folder / "state.pt", 1), "job", "last", "8.4"
    )

    beginning = worker_machine.begin(durable=(1, 0))
    training_request = request("classify", worker_machine.folder, epochs=3, identity=JOB.identity())
    training_request = dataclasses.replace(
        training_request, resume_from=beginning.last, best_from=beginning.best, recover=True
    )
    restored = restore(training_request, training_request.resume_from or Path())

    assert (restored.best_epoch, restored.inexact_reason) == (1, None)
    assert load_checkpoint(training_request.save_dir / "weights" / "best.pt")["epoch"] == 1


@pytest.mark.parametrize(("best_epoch", "kept"), [(2, 2), (1, 0)])
def test_an_outdated_best_pt_is_made_from_the_state_only_if_the_state_is_the_best(
    worker_machine: Machine, states: Path, best_epoch: int, kept: int
) -> None:
    state = load_checkpoint(states / "2.pt")
    state[EXACT][BEST_EPOCH], state["best_fitness"] = best_epoch, 0.9
    state["train_metrics"]["fitness"] = 0.9 if best_epoch == 2 else 0.1
    save(state, worker_machine.folder / "state.pt")
    training_request = request("classify", worker_machine.folder, epochs=3, identity=JOB.identity())
    training_request = dataclasses.replace(training_request, best_from=states / "best.pt", recover=True)

    restored = restore(training_request, worker_machine.folder / "state.pt")

    lost = None if kept == best_epoch else "the best.pt of epoch 2 was lost"
    assert (restored.best_epoch, restored.inexact_reason) == (kept, lost)
