"""The upload tasks send only missing checkpoints, and remove the local files when both are in S3."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import boto3
import pytest

from include.attempt.manifest import TrainingManifest
from include.attempt.uploads import publish_final, upload
from include.checkpoints.checkpoint import CHECKPOINT_KINDS, Checkpoint, CheckpointKind
from include.checkpoints.store import CheckpointStore
from include.deployment.retrying import retry_while_unavailable
from include.deployment.settings import Settings
from include.s3.bucket import Bucket
from include.s3.errors import FencedOut, LocalFileMissing, RefusedForNow
from include.trusted_folders import UntrustedFolder
from tests.support.stored_objects import body, metadata
from tests.support.stored_objects import replace as s3_replace

if TYPE_CHECKING:
    from pathlib import Path

    from mypy_boto3_s3 import S3Client

    from include.stack.s3 import S3


@pytest.fixture
def settings(bucket: str, tmp_path: Path) -> Settings:
    return Settings(bucket=bucket, training_root=tmp_path / "training")


@pytest.fixture
def store(s3_client: S3Client, bucket: str) -> CheckpointStore:
    return CheckpointStore(Bucket(s3_client, bucket))


@pytest.fixture
def manifest(settings: Settings) -> TrainingManifest:
    """Return the manifest of a finished training run, after writing its files on this machine."""
    weights = settings.find_run_folder("job") / "weights"
    weights.mkdir(parents=True)

    def file(name: str) -> Checkpoint:
        (weights / name).write_bytes(name.encode() * 1000)
        return Checkpoint.of_file(weights / name, epoch=1)

    return TrainingManifest(
        job_id="job",
        run_id="manual__0",
        origin_run_id="manual__0",
        best=file("best.pt"),
        last=file("last.pt"),
        epoch=1,
        epochs=2,
        start_epoch=0,
        metrics={},
        fitness=0.5,
        stop_reason="completed",
        seconds=1.0,
        device="cpu",
        ultralytics_version="8.4",
        keep_local=False,
    )


@pytest.mark.parametrize("order", [("best", "last"), ("last", "best")])
def test_the_second_upload_removes_the_local_files(
    order: tuple[CheckpointKind, CheckpointKind],
    manifest: TrainingManifest,
    store: CheckpointStore,
    settings: Settings,
) -> None:
    first, second = order
    stored = upload(manifest, first, store, settings)
    assert stored.path == f"s3://{settings.bucket}/checkpoints/job/{first}.pt"
    assert settings.find_job_folder("job").exists()
    upload(manifest, second, store, settings)
    assert not settings.find_job_folder("job").exists()
    assert store.holds("job", "best", manifest.best)
    assert store.holds("job", "last", manifest.last)


@pytest.mark.parametrize("keep_local", [False, True])
def test_an_object_that_was_damaged_later_is_replaced_by_the_local_file(
    manifest: TrainingManifest,
    store: CheckpointStore,
    settings: Settings,
    s3_client: S3Client,
    monkeypatch: pytest.MonkeyPatch,
    keep_local: bool,
) -> None:
    """The remedy of docs/operations.md: clear upload_best, upload_last and the tasks after them."""
    monkeypatch.setattr("include.attempt.uploads._NEW", timedelta(0))
    publish_final(manifest, store)
    uri = store.build_uri("job", "last")
    intact, described = body(s3_client, uri), metadata(s3_client, uri)
    s3_replace(s3_client, uri, intact[:-1] + b"!", described)
    cleared = manifest.model_copy(update={"keep_local": keep_local})
    for kind in CHECKPOINT_KINDS:
        upload(cleared, kind, CheckpointStore(Bucket(s3_client, settings.bucket)), settings)
    assert (body(s3_client, uri), metadata(s3_client, uri)["sha256"]) == (intact, manifest.last.sha256)
    assert store.head("job", "last.previous") is None
    assert settings.find_job_folder("job").exists() == keep_local


def test_local_files_stay_if_keep_local_is_set(
    manifest: TrainingManifest, store: CheckpointStore, settings: Settings
) -> None:
    kept = manifest.model_copy(update={"keep_local": True})
    upload(kept, "best", store, settings)
    upload(kept, "last", store, settings)
    assert (settings.find_run_folder("job") / "weights" / "last.pt").exists()


def test_on_another_machine_the_uploads_find_the_checkpoints_that_train_has_sent(
    manifest: TrainingManifest, store: CheckpointStore, settings: Settings, tmp_path: Path
) -> None:
    publish_final(manifest, store)
    elsewhere = replace(settings, training_root=tmp_path / "another machine")
    gone = manifest.model_copy(
        update={
            "best": replace(manifest.best, path="/nowhere/best.pt"),
            "last": replace(manifest.last, path="/nowhere/last.pt"),
        }
    )
    assert upload(gone, "best", store, elsewhere).sha256 == manifest.best.sha256
    assert upload(gone, "last", store, elsewhere).sha256 == manifest.last.sha256


def test_the_error_for_a_missing_checkpoint_says_to_clear_the_task_train(
    manifest: TrainingManifest, store: CheckpointStore, settings: Settings
) -> None:
    gone = manifest.model_copy(update={"best": replace(manifest.best, path="/nowhere/best.pt")})
    with pytest.raises(LocalFileMissing, match="clear the task `train`"):
        upload(gone, "best", store, settings)


def test_a_superseded_attempt_does_not_publish(
    manifest: TrainingManifest,
    store: CheckpointStore,
    s3_client: S3Client,
    settings: Settings,
    tmp_path: Path,
) -> None:
    store.head("job", "best")
    newer = tmp_path / "newer.pt"
    newer.write_bytes(b"newer")
    CheckpointStore(Bucket(s3_client, settings.bucket)).upload(
        Checkpoint.of_file(newer, 9), "job", "best", "8.4"
    )
    with pytest.raises(FencedOut):
        publish_final(manifest, store)


def test_files_in_a_folder_that_others_can_change_are_neither_sent_nor_removed(
    manifest: TrainingManifest, store: CheckpointStore, settings: Settings
) -> None:
    settings.training_root.chmod(0o777)
    with pytest.raises(UntrustedFolder, match=f"can replace {settings.find_job_folder('job')}"):
        upload(manifest, "best", store, settings)
    assert not store.holds("job", "best", manifest.best)
    assert settings.find_job_folder("job").exists()


@pytest.fixture
def session(s3: S3) -> boto3.Session:
    """Return a session that signs with a wrong secret key, as after a rotation."""
    return boto3.Session(s3.access_key, "rotated", region_name=s3.region)


def test_a_rotated_key_does_not_end_the_upload_of_a_finished_run(
    manifest: TrainingManifest, settings: Settings, s3: S3, session: boto3.Session
) -> None:
    store = CheckpointStore(Bucket(session.client("s3", endpoint_url=s3.endpoint_url), settings.bucket))
    with pytest.raises(RefusedForNow, match=r"keys of connection training_s3 .* retries continue"):
        upload(manifest, "best", store, settings)


def test_a_finished_run_is_published_once_the_keys_are_corrected(
    manifest: TrainingManifest,
    settings: Settings,
    s3: S3,
    session: boto3.Session,
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = session.client("s3", endpoint_url=s3.endpoint_url)

    def correct_the_key(**_: object) -> None:
        credentials = session.get_credentials()
        assert credentials is not None
        credentials.secret_key = s3.secret_key  # the client signs with this object

    client.meta.events.register("after-call.s3.GetObject", correct_the_key)
    store = CheckpointStore(Bucket(client, settings.bucket))

    retry_while_unavailable(lambda: publish_final(manifest, store))

    assert "does not accept the keys of connection training_s3" in caplog.text
    assert store.holds("job", "last", manifest.last)


def test_a_missing_bucket_does_not_end_the_upload_of_a_finished_run(
    manifest: TrainingManifest, settings: Settings, s3_client: S3Client
) -> None:
    with pytest.raises(RefusedForNow, match="CHECKPOINT_BUCKET"):
        publish_final(manifest, CheckpointStore(Bucket(s3_client, f"{settings.bucket}-gone")))


def test_a_manifest_cannot_send_other_files_of_the_machine(
    manifest: TrainingManifest, store: CheckpointStore, settings: Settings, tmp_path: Path
) -> None:
    secret = tmp_path / "airflow.cfg"
    secret.write_text("fernet_key = secret")
    changed = manifest.model_copy(update={"best": Checkpoint.of_file(secret, epoch=1)})
    message = r"airflow\.cfg is not the path at which this machine keeps that file \(.*best\.pt\)"
    with pytest.raises(LocalFileMissing, match=message):
        upload(changed, "best", store, settings)
    assert not store.holds("job", "best", changed.best)


def test_an_upload_succeeds_if_the_files_are_only_in_s3(
    manifest: TrainingManifest, store: CheckpointStore, settings: Settings
) -> None:
    publish_final(manifest, store)
    shutil.rmtree(settings.training_root)
    # As if the other upload were removing the folder at this moment.
    settings.training_root.symlink_to("/nonexistent")
    assert upload(manifest, "best", store, settings).path == store.build_uri("job", "best")
