"""The task `train`: fetches the data, claims a GPU, trains, and keeps S3 and the job's row up to date."""

from __future__ import annotations

import logging
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from include.attempt.elsewhere import seek_device_elsewhere
from include.attempt.job_record import JobRecord
from include.attempt.manifest import TrainingManifest
from include.attempt.pictures import remove_earlier_pictures, store_pictures
from include.attempt.preemption import handle_sigterm
from include.attempt.reporter import train_and_report
from include.attempt.sole_attempt import sole_attempt
from include.attempt.starting_point import Recovery
from include.attempt.tracking import Tracker, predict_final_row
from include.attempt.uploads import publish_final
from include.claim.preparation import show_preparation
from include.datasets.caching.fetch import materialize
from include.datasets.caching.listing import S3Listings
from include.datasets.errors import DatasetChanged, ReaderKilled
from include.datasets.s3 import S3ObjectReader
from include.deployment.connections import open_bucket, prepare_training_db
from include.deployment.retrying import retry_while_unavailable, treat_refusals_as_temporary
from include.deployment.tracking import find_tracking_server
from include.file_locks import spared_by_cleaners
from include.jobs.job import StopRequest
from include.s3.errors import FencedOut, StoreBusy
from include.training.contract import ProcessKilled, TrainingRequest
from include.training.gpu_claims import wait_for_gpus
from include.training.gpus import describe_hardware, require_hardware
from include.trusted_folders import make_trusted_folder
from include.watchdog.attempt import watch_attempt
from include.watchdog.traces import Trace
from include.watchdog.watch import Limits

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from include.attempt.preemption import Termination
    from include.attempt.starting_point import StartingPoint
    from include.checkpoints.store import CheckpointStore
    from include.claim.resolved_job import ResolvedJob
    from include.datasets.caching.fetch import LocalDataset
    from include.datasets.reference import DatasetReference
    from include.deployment.settings import Settings
    from include.jobs.job import TrainingJob
    from include.s3.bucket import Bucket
    from include.training.heartbeat import Heartbeats

log = logging.getLogger(__name__)

_GPU_SECONDS = 3600.0
"""How long one attempt waits for a GPU, in seconds. With its retries, a job waits for up to two days."""


class TrainingAttempt:
    """One attempt at a job: it starts from the state of the previous attempt, and saves states for the next.

    `open_store` returns a new store for the job's checkpoints: one that has not read any object from S3 yet.
    """

    def __init__(
        self,
        job: ResolvedJob,
        dataset: DatasetReference,
        attempt: int,
        settings: Settings,
        open_store: Callable[[], CheckpointStore],
    ) -> None:
        self._job, self._dataset = job, dataset
        self._settings, self._open_store = settings, open_store
        self._row = JobRecord(job.job_id, job.run_id, attempt, prepare_training_db())
        folder = settings.find_job_folder(job.job_id)
        self._inputs, self._snapshots = folder / "inputs", folder / "snapshots"
        self._save_dir = settings.find_run_folder(job.job_id)
        self._watch_folder = folder / "watchdog"
        self._heartbeats: Heartbeats | None = None

    def read_durable_progress(self) -> tuple[int, int]:
        """Return how many epochs the newest state in S3 has finished, and how many batches after them.

        Both numbers come from the job's row. Raises OwnershipLost.
        """
        epoch, batch = self._row.require_own().durable or (-1, 0)
        return epoch + 1, batch

    def is_resumable(self) -> bool:
        """Return whether S3 has a state of this training run, according to the job's row."""
        return retry_while_unavailable(self.read_durable_progress) > (0, 0)

    def read_trace(self) -> Trace | None:
        """Return the trace that a killed attempt left on this machine, if any. Raises UntrustedFolder."""
        return Trace.read(self._watch_folder)

    def run(self) -> TrainingManifest:
        """Train; return when training has ended and both final files are in S3 and verified.

        Raises Preempted if this machine is preempted; the finished batches are in S3 if their upload finished
        in time. After this or any other error, the next attempt resumes from the newest state. NoGpuFree and
        StillRunning are raised only before training has started.
        """
        job = self._job
        with handle_sigterm() as termination, ExitStack() as stack:
            stack.enter_context(
                sole_attempt(self._settings.job_locks, job.job_id, job.run_id, self._row.attempt)
            )
            stack.enter_context(spared_by_cleaners(self._settings.training_root))
            self._prepare_folders(stack)
            bucket = open_bucket(self._settings)
            self._require_hardware(job.spec.device)
            # The data are fetched before a GPU is claimed, so that no GPU is idle while the attempt waits for
            # them. Fetching may take hours, but training's watchdog limits the time until the first batch, so
            # fetching has a watchdog of its own.
            with self._watch():
                dataset = retry_while_unavailable(lambda: self._fetch_dataset(bucket, stack))
            device = self._claim_device(stack)
            self._require_unchanged(dataset)
            self._heartbeats = stack.enter_context(self._watch())
            try:
                return self._run(termination, device, dataset)
            except FencedOut as error:
                self._row.require_own()
                # The other writer is an older attempt that has not yet noticed that it has lost the job.
                raise StoreBusy(
                    f"{error}. But the job's row still names this attempt, so a retry can take the job over"
                ) from None

    def _watch(self) -> AbstractContextManager[Heartbeats]:
        """Start a process that watches this one."""
        limits = Limits.from_timeout(self._job.spec.hang_timeout)
        return watch_attempt(self._watch_folder, self._row.attempt, limits)

    def _claim_device(self, stack: ExitStack) -> str | None:
        """Claim the job's GPUs until `stack` closes; wait for up to an hour if other runs hold them."""
        with seek_device_elsewhere(self.is_resumable):
            device = stack.enter_context(
                wait_for_gpus(self._job.spec.device, self._settings.gpu_locks, _GPU_SECONDS)
            )
        self._require_hardware(device)
        return device

    def _require_unchanged(self, dataset: LocalDataset) -> None:
        """Refuse data that were changed while the attempt waited for its GPU."""
        if not dataset.is_unchanged():
            raise DatasetChanged(
                f"Files of dataset {self._dataset.source!r} were changed after the check, while the job "
                "waited for a GPU; start the job again to check the current files and train on them"
            )

    def _require_hardware(self, device: str | None) -> None:
        """Refuse a machine that lacks the device."""
        with seek_device_elsewhere(self.is_resumable):
            require_hardware(device, cpu_worker=self._settings.is_cpu_worker)

    def _prepare_folders(self, stack: ExitStack) -> None:
        """Create the job's folders. Refuse an untrusted folder before removing or using anything in it."""
        make_trusted_folder(self._save_dir / "weights")
        for folder in (self._inputs, self._snapshots):
            shutil.rmtree(folder, ignore_errors=True)
            make_trusted_folder(folder)
        stack.callback(shutil.rmtree, self._snapshots, ignore_errors=True)

    def _run(self, termination: Termination, device: str | None, dataset: LocalDataset) -> TrainingManifest:
        job, hardware = self._job, describe_hardware(device)
        retry_while_unavailable(lambda: self._row.leave_queue(hardware))
        with self._row.counting_gpu_use():
            store, start, must_stop = retry_while_unavailable(self._take_over_job)
            request = retry_while_unavailable(
                lambda: self._build_request(dataset.data, start, store, must_stop, device)
            )
            with Tracker(find_tracking_server(), job.job_id, job.origin_run_id, self._row.open) as tracker:
                result = train_and_report(
                    request, job, start, self._row, store, tracker, termination, self._snapshots
                )
                if not dataset.is_unchanged():
                    retry_while_unavailable(self._record_changed_data)
                manifest = TrainingManifest.of(job, result)
                retry_while_unavailable(lambda: publish_final(manifest, store))
                store_pictures(self._save_dir, self._settings, job)
                tracker.end(predict_final_row(manifest, store))
            return manifest

    def _fetch_dataset(self, bucket: Bucket, stack: ExitStack) -> LocalDataset:
        """Fetch the checked data and reserve them for this training run until `stack` closes.

        If the training run has a state, a request that S3 refuses counts as a temporary failure. Raises
        ProcessKilled if the process that reads the data is killed. The attempt is then retried, because data
        that have passed the check are unlikely to be the cause.
        """
        settings = self._settings
        local = materialize(
            self._dataset,
            settings.dataset_cache,
            S3ObjectReader(bucket.client),
            settings.dataset_roots,
            S3Listings(bucket),
            settings.dataset_cache_limit,
        )
        with treat_refusals_as_temporary(self._has_state), show_preparation(self._job, self._row.open):
            try:
                return stack.enter_context(local)
            except ReaderKilled as error:
                reader = f"The process that reads dataset {self._dataset.source!r}"
                raise ProcessKilled(f"{reader} was killed by SIGKILL") from error

    def _record_changed_data(self) -> None:
        reason = (
            f"files of dataset {self._dataset.source} changed during training; to prevent this, store the "
            "dataset in S3, under a prefix or as a zip file: it is then copied before training"
        )
        log.warning("Identical weights are no longer guaranteed: %s.", reason)
        self._row.record_inexact(reason)

    def _has_state(self) -> bool:
        """Return whether this training run has a state, on this machine or (according to the row) in S3."""
        return (self._save_dir / "weights" / "last.pt").is_file() or self.read_durable_progress() > (0, 0)

    def _take_over_job(self) -> tuple[CheckpointStore, StartingPoint, bool]:
        """Find the starting point; make this attempt the owner of the stored checkpoints and the job's row.

        Returns the store, the starting point, and whether a user's request to stop applies at that point. The
        last is True only if the starting point is a state of this training run. Raises OwnershipLost.
        """
        while True:
            row = self._row.require_own()
            store = self._open_store()
            recovery = Recovery(
                self._job,
                self._build_identity(),
                self._row.attempt,
                store,
                self._inputs,
                self._save_dir / "weights",
            )
            try:
                start = recovery.find_starting_point(row.durable)
            except FencedOut as error:
                log.warning("%s. Reading the stored checkpoints again.", error)
                continue
            repeated = self._row.start_training(start)
            if repeated:
                log.warning("%d recorded epochs have no stored state: repeating them.", repeated)
            if not start.is_own:
                remove_earlier_pictures(self._save_dir, self._settings, self._job)
            if start.last is not None:
                self._row.record_durable(start.epoch, start.batch)
            return store, start, start.is_own and _should_stop(row, start)

    def _build_identity(self) -> dict[str, object]:
        return self._job.identity() | {"data": self._dataset.fingerprint}

    def _build_request(
        self, data: Path, start: StartingPoint, store: CheckpointStore, must_stop: bool, device: str | None
    ) -> TrainingRequest:
        spec = self._job.spec
        return TrainingRequest(
            task=spec.task,
            model=self._fetch_initial_model(store) if start.last is None else spec.model,
            data=data,
            save_dir=self._save_dir,
            epochs=spec.epochs,
            device=device,
            arguments=spec.build_arguments(),
            resume_from=start.last,
            best_from=start.best,
            identity=self._build_identity(),
            recover=start.is_own,
            was_stopped=must_stop,
            loss_rules=spec.build_loss_rules(),
            heartbeats=self._heartbeats,
        )

    def _fetch_initial_model(self, store: CheckpointStore) -> str:
        """Return the name of the architecture, or fetch and verify the weights and return their path."""
        model, weights = self._job.spec.model, self._job.weights
        if weights is not None:
            to = self._inputs / Path(weights.path).name
            return str(store.fetch_object(weights.path, to, weights.sha256))
        if model.startswith("s3://"):  # the job is from a release that recorded no hashes
            return str(store.fetch_object(model, self._inputs / Path(model).name))
        return model


def _should_stop(row: TrainingJob, start: StartingPoint) -> bool:
    """Return whether a user's request to stop applies at the starting point.

    A request to stop after the current epoch applies only at the end of an epoch.
    """
    stop = StopRequest.of(row.stop_requested, row.stop_after_epoch)
    at_epoch_end = start.epoch >= 0 and start.batch == 0
    return stop is StopRequest.NOW or (stop is StopRequest.AFTER_EPOCH and at_epoch_end)
