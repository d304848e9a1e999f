"""The task `train`: brings data and state to this machine, trains, keeps S3 and the row up to date."""

from __future__ import annotations

import logging
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from include.checkpoints.errors import FencedOut, StoreError
from include.checkpoints.publisher import BackgroundPublisher, PublishLimits
from include.datasets.fetch import materialized
from include.datasets.listings import S3Listings
from include.datasets.s3 import S3ObjectReader
from include.pipeline.connections import s3_client, training_database
from include.pipeline.epoch_recorder import EpochRecorder
from include.pipeline.epochs import EpochEnd, JobRecord
from include.pipeline.patience import patiently, persistent
from include.pipeline.payloads import TrainingManifest
from include.pipeline.pictures import remove_local_pictures, store_pictures
from include.pipeline.preemption import interruptible
from include.pipeline.recovery import Recovery
from include.pipeline.snapshots import attempt_folder, remove_abandoned
from include.pipeline.tracking import Tracker, as_recorded, tracking_server
from include.training.contract import DeviceNotAvailable, GpuLost, TrainingRequest
from include.training.gpus import claimed
from include.trusted_folders import make_trusted_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_s3 import S3Client

    from include.checkpoints.store import CheckpointStore
    from include.datasets.fetch import LocalDataset
    from include.datasets.reference import DatasetReference
    from include.pipeline.payloads import ResolvedJob
    from include.pipeline.preemption import Interruption
    from include.pipeline.recovery import Beginning
    from include.pipeline.settings import Settings
    from include.training.contract import TrainingResult

log = logging.getLogger(__name__)

_DRAIN_SECONDS = 60.0
"""For the last snapshot; after it the final files are sent with more patience, and it is one of them."""

_GRACE_SECONDS = 90.0
"""For the last epoch's upload when this machine is taken away; compose and `make down` give two minutes."""


class TrainingAttempt:
    """One attempt at one job: it begins where the ones before it ended, and leaves what the next one needs.

    open_store makes a new writer of the job's checkpoints, one that knows nothing yet of what is there.
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
        self._row = JobRecord(job.job_id, job.run_id, attempt, training_database())
        folder = settings.job_folder(job.job_id)
        self._inputs, self._snapshots = folder / "inputs", folder / "snapshots"
        self._save_dir = settings.run_folder(job.job_id)

    def durable_epochs(self) -> int:
        """How many epochs are safe in S3 by the row. Raises OwnershipLost."""
        durable = self._row.own().durable_epoch
        return 0 if durable is None else durable + 1

    def run(self) -> TrainingManifest:
        """Train to the end, and return when both final files are in S3, verified.

        Raises Preempted where this machine is taken away; what was finished is durable then, if S3 took it in
        time. After any other error, too, the next attempt goes on from the newest state. Raises NoGpuFree
        before anything has begun.
        """
        with interruptible() as interruption, ExitStack() as stack:
            device = self._claim_device(stack)
            try:
                return self._run(interruption, device, stack)
            except FencedOut as error:
                self._row.own()
                # Whoever wrote is not the owner: an older attempt that has not noticed yet.
                raise StoreError(f"{error}. The row is this attempt's: the next one takes over") from None

    def _claim_device(self, stack: ExitStack) -> str | None:
        """Claim the job's GPUs until `stack` closes.

        A machine without them is the wrong one for a training that has had them: raises GpuLost.
        """
        try:
            return stack.enter_context(claimed(self._job.spec.device, self._settings.gpu_locks))
        except DeviceNotAvailable as error:
            if patiently(self.durable_epochs) == 0:
                raise
            raise GpuLost(f"{error}. This training had such a GPU and goes on on another machine") from error

    def _run(self, interruption: Interruption, device: str | None, stack: ExitStack) -> TrainingManifest:
        # Before anything in the job's folder is removed or used.
        make_trusted_folder(self._save_dir / "weights")
        shutil.rmtree(self._inputs, ignore_errors=True)
        for folder in (self._inputs, self._snapshots):
            make_trusted_folder(folder)
        remove_abandoned(self._snapshots)
        client = s3_client()
        data = patiently(lambda: self._bring_data(client, stack)).data
        store, beginning, stop = patiently(self._begin)
        request = patiently(lambda: self._request(data, beginning, store, stop, device))
        with Tracker(tracking_server(), self._job.job_id, self._job.origin_run_id, self._row.open) as tracker:
            durable_epoch = beginning.epoch if beginning.last is not None else None
            result = self._train(request, store, interruption, tracker, durable_epoch)
            manifest = TrainingManifest.of(self._job, result)
            patiently(lambda: publish_final(manifest, store))
            job = self._job
            store_pictures(self._save_dir, self._settings.bucket, job.job_id, job.origin_run_id)
            tracker.end(as_recorded(manifest, store))
        return manifest

    def _bring_data(self, client: S3Client, stack: ExitStack) -> LocalDataset:
        """Bring the checked data here, for this training alone until `stack` closes.

        Where a state exists, what S3 refuses counts as temporary.
        """
        settings = self._settings
        local = materialized(
            self._dataset,
            settings.dataset_cache,
            S3ObjectReader(client),
            settings.dataset_roots,
            S3Listings(client, settings.bucket),
        )
        with persistent(self._has_state):
            return stack.enter_context(local)

    def _has_state(self) -> bool:
        """Whether this training has a state, in S3 by the row or on this machine."""
        return (self._save_dir / "weights" / "last.pt").is_file() or self.durable_epochs() > 0

    def _begin(self) -> tuple[CheckpointStore, Beginning, bool]:
        """Find where to begin, and make this attempt the owner of what is in S3 and of the row.

        Returns, too, whether somebody has asked meanwhile that the job stops. Raises OwnershipLost.
        """
        while True:
            row = self._row.own()
            store = self._open_store()
            recovery = Recovery(
                self._job,
                self._identity(),
                self._row.attempt,
                store,
                self._inputs,
                self._save_dir / "weights",
            )
            try:
                beginning = recovery.begin(row.durable_epoch)
            except FencedOut as error:
                log.warning("%s. Looking again what is there.", error)
                continue
            repeated = self._row.begin(beginning)
            if repeated:
                log.warning(
                    "%d epochs were recorded, but their state is not there: repeating them.", repeated
                )
            if not beginning.own:
                remove_local_pictures(self._save_dir)
            if beginning.last is not None:
                self._row.durable(beginning.epoch)
            return store, beginning, beginning.own and row.stop_requested and row.status == "running"

    def _identity(self) -> dict[str, object]:
        return self._job.identity() | {"data": self._dataset.fingerprint}

    def _request(
        self, data: Path, beginning: Beginning, store: CheckpointStore, stop: bool, device: str | None
    ) -> TrainingRequest:
        spec = self._job.spec
        model = spec.model or ""
        if beginning.last is None and model.startswith("s3://"):
            model = str(store.fetch_object(model, self._inputs / Path(model).name))
        return TrainingRequest(
            task=spec.task or "detect",
            model=model,
            data=data,
            save_dir=self._save_dir,
            epochs=spec.epochs,
            device=device,
            arguments=spec.arguments(),
            resume_from=beginning.last,
            best_from=beginning.best,
            identity=self._identity(),
            recover=beginning.own,
            stop=stop,
        )

    def _train(
        self,
        request: TrainingRequest,
        store: CheckpointStore,
        interruption: Interruption,
        tracker: Tracker,
        durable_epoch: int | None,
    ) -> TrainingResult:
        from ultralytics import __version__

        from include.training.run import train
        from include.training.saving import strip

        spec = self._job.spec
        limits = PublishLimits(every_epochs=spec.publish_every, interval_seconds=spec.publish_interval)
        publisher = BackgroundPublisher(
            store,
            self._job.job_id,
            __version__,
            strip,
            self._row.durable,
            limits,
            durable_epoch=durable_epoch,
            drain_seconds=_DRAIN_SECONDS,
            grace_seconds=_GRACE_SECONDS,
        )
        last = self._save_dir / "weights" / "last.pt"
        with EpochRecorder(self._row) as recorder:
            with attempt_folder(self._snapshots) as snapshots, publisher:
                epoch_end = EpochEnd(recorder, publisher, tracker, interruption, last, snapshots)
                result = train(request, epoch_end)
            patiently(recorder.flush)
        return result


@persistent()
def publish_final(manifest: TrainingManifest, store: CheckpointStore) -> None:
    """Send what the publisher has not sent: the upload tasks then find both files, on whatever machine."""
    for checkpoint, kind in manifest.checkpoints():
        store.upload(checkpoint, manifest.job_id, kind, manifest.ultralytics_version, keep_parts=True)
