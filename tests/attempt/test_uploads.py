"""The upload tasks send what is missing, find what is there, and clean up when both files are safe."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import boto3
import pytest

from include.attempt.manifest import TrainingManifest
from include.attempt.uploads import publish_final, upload
from include.checkpoints.checkpoint import Checkpoint, CheckpointKind
from include.checkpoints.store import CheckpointStore
from include.deployment.retrying import retry_while_unavailable
from include.deployment.settings import Settings
from include.s3.bucket import Bucket
from include.s3.errors import FencedOut, LocalFileMissing, RefusedForNow
from include.trusted_folders import UntrustedFolder

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
    """What a finished training run left on this machine."""
    weights = settings.run_folder("job") / "weights"
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
def test_the_upload_that_ends_last_removes_the_local_files(
    order: tuple[CheckpointKind, CheckpointKind],
    manifest: TrainingManifest,
    store: CheckpointStore,
    settings: Settings,
) -> None:
    first, second = order
    stored = upload(manifest, first, store, settings)
    assert stored.path == f"s3://{settings.bucket}/checkpoints/job/{first}.pt"
    assert settings.job_folder("job").exists()
    upload(manifest, second, store, settings)
    assert not settings.job_folder("job").exists()
    assert store.holds("job", "best", manifest.best)
    assert store.holds("job", "last", manifest.last)


def test_local_files_stay_where_that_was_asked_for(
    manifest: TrainingManifest, store: CheckpointStore, settings: Settings
) -> None:
    kept = manifest.model_copy(update={"keep_local": True})
    upload(kept, "best", store, settings)
    upload(kept, "last", store, settings)
    assert (settings.run_folder("job") / "weights" / "last.pt").exists()


def test_on_another_machine_the_uploads_find_what_train_has_sent(
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


def test_what_is_neither_here_nor_in_s3_asks_to_clear_train(
    manifest: TrainingManifest, store: CheckpointStore, settings: Settings
) -> None:
    gone = manifest.model_copy(update={"best": replace(manifest.best, path="/nowhere/best.pt")})
    with pytest.raises(LocalFileMissing, match="clear the task `train`"):
        upload(gone, "best", store, settings)


def test_a_training_that_was_overtaken_does_not_publish(
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


def test_nothing_is_sent_or_removed_where_others_could_have_prepared_the_files(
    manifest: TrainingManifest, store: CheckpointStore, settings: Settings
) -> None:
    settings.training_root.chmod(0o777)
    with pytest.raises(UntrustedFolder, match=f"can replace {settings.job_folder('job')}"):
        upload(manifest, "best", store, settings)
    assert not store.holds("job", "best", manifest.best)
    assert settings.job_folder("job").exists()


@pytest.fixture
def session(s3: S3) -> boto3.Session:
    """Signs with a wrong secret key, as after a rotation."""
    return boto3.Session(s3.access_key, "rotated", region_name=s3.region)


def test_a_key_that_was_rotated_does_not_end_the_upload_of_what_was_trained(
    manifest: TrainingManifest, settings: Settings, s3: S3, session: boto3.Session
) -> None:
    store = CheckpointStore(Bucket(session.client("s3", endpoint_url=s3.endpoint_url), settings.bucket))
    with pytest.raises(RefusedForNow, match=r"keys of connection training_s3 .* retries continue"):
        upload(manifest, "best", store, settings)


def test_what_was_trained_is_published_once_the_keys_are_right(
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


def test_a_bucket_that_is_gone_does_not_end_the_upload_of_what_was_trained(
    manifest: TrainingManifest, settings: Settings, s3_client: S3Client
) -> None:
    with pytest.raises(RefusedForNow, match="CHECKPOINT_BUCKET"):
        publish_final(manifest, CheckpointStore(Bucket(s3_client, f"{settings.bucket}-gone")))


def test_no_other_file_of_the_machine_is_sent_whatever_the_manifest_says(
    manifest: TrainingManifest, store: CheckpointStore, settings: Settings, tmp_path: Path
) -> None:
    secret = tmp_path / "airflow.cfg"
    secret.write_text("fernet_key = secret")
    changed = manifest.model_copy(update={"best": Checkpoint.of_file(secret, epoch=1)})
    with pytest.raises(LocalFileMissing, match=r"airflow\.cfg is not where this machine keeps it"):
        upload(changed, "best", store, settings)
    assert not store.holds("job", "best", changed.best)


def test_an_upload_whose_files_are_gone_and_in_s3_is_done(
    manifest: TrainingManifest, store: CheckpointStore, settings: Settings
) -> None:
    publish_final(manifest, store)
    shutil.rmtree(settings.training_root)
    settings.training_root.symlink_to("/nonexistent")  # as while the other upload is removing it
    assert upload(manifest, "best", store, settings).path == store.uri("job", "best")
