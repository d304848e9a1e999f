"""Initial weights are found before a job takes a GPU, and afterwards are identified by their hash."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from include.checkpoints.checkpoint import Checkpoint
from include.checkpoints.store import CheckpointStore
from include.claim.resolved_job import ResolvedJob
from include.jobs.listing import JobListing
from include.jobs.repository import JobRepository
from include.jobs.spec import SpecError
from include.models.promotion import register_copy
from include.s3.bucket import Bucket
from include.s3.errors import ObjectNotFound
from tests.support.claims import RUN, Claims
from tests.support.jobs import recorded
from tests.support.model_keys import new_key, trusting
from tests.support.model_versions import promote_over_present, tamper
from tests.support.release_server import Release, finder, serving
from tests.support.stored_objects import body
from tests.support.tiny_models import architecture
from tests.support.untrained import best

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    return best("detect", folder / "tiny.pt", architecture=architecture(folder))


@pytest.fixture
def release(weights_file: Path) -> Iterator[Release]:
    with serving() as release:
        release.files["yolo11n.pt"] = weights_file.read_bytes()
        yield release


@pytest.fixture
def resolving(
    connection: psycopg.Connection[Any], s3_client: S3Client, bucket: str, release: Release
) -> Claims:
    connection.autocommit = True
    return Claims(connection, s3_client, bucket, release.url)


@pytest.fixture
def trained_job_id(
    resolving: Claims,
    weights_file: Path,
    s3_client: S3Client,
    bucket: str,
    connection: psycopg.Connection[Any],
) -> str:
    """Add a completed job with a best.pt; return its id."""
    resolving({"job_id": "trained", "model": "yolo11n"}, replace(RUN, run_id="manual__0"))
    file = Checkpoint.of_file(weights_file, epoch=4)
    store = CheckpointStore(Bucket(s3_client, bucket), run_id="manual__0")
    store.upload(file, "trained", "best", "8.4")
    connection.execute(
        "UPDATE training_jobs SET status = 'completed', epoch = 4, best_checkpoint_path = %s, "
        "best_checkpoint_sha256 = %s, best_checkpoint_size = %s WHERE job_id = 'trained'",
        [store.build_uri("trained", "best"), file.sha256, file.size],
    )
    return "trained"


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _refusal(resolving: Claims, params: dict[str, Any]) -> str:
    with pytest.raises(SpecError) as refusal:
        resolving(params)
    assert "\n" not in str(refusal.value)
    assert refusal.value.field == "model"
    return str(refusal.value)


def test_a_pretrained_file_is_fetched_and_its_hash_is_in_the_row_and_in_the_identity(
    resolving: Claims, jobs: JobRepository, weights_file: Path, bucket: str
) -> None:
    job = resolving({"job_id": "a", "model": "YOLO11n.pt"})
    assert job.weights is not None
    assert (job.weights.path, job.weights.job_id) == (f"s3://{bucket}/pretrained/yolo11n.pt", None)
    assert job.identity()["initial_weights"] == job.weights.sha256 == _sha256(weights_file)
    row = recorded(jobs, "a")
    assert (row.initial_weights_path, row.initial_weights_sha256) == (job.weights.path, job.weights.sha256)
    assert (row.spec or {})["model"] == "yolo11n.pt"
    assert ResolvedJob.model_validate(job.model_dump(mode="json")) == job


def test_a_training_run_from_scratch_has_no_initial_weights(resolving: Claims, jobs: JobRepository) -> None:
    job = resolving({"job_id": "a", "model": "yolo11n"})
    assert job.weights is None
    assert "initial_weights" not in job.identity()
    assert recorded(jobs, "a").initial_weights_sha256 is None


def test_different_weights_with_the_same_name_make_a_different_training_run(
    resolving: Claims, s3_client: S3Client, bucket: str, tmp_path: Path
) -> None:
    first = resolving({"job_id": "a", "model": "yolo11n.pt"})
    other = best("detect", tmp_path / "b.pt", classes=("cat",), architecture=architecture(tmp_path))
    s3_client.upload_file(str(other), bucket, "pretrained/yolo11n.pt")
    second = resolving({"job_id": "a", "model": "yolo11n.pt"})
    assert second.identity() == first.identity() | {"initial_weights": _sha256(other)}
    assert _sha256(other) != first.identity()["initial_weights"]


@pytest.mark.parametrize("length", ["²", "9" * 5000])
def test_a_size_that_is_no_number_of_bytes_is_ignored(
    resolving: Claims, release: Release, weights_file: Path, length: str
) -> None:
    release.headers = {"Content-Length": length}
    job = resolving({"job_id": "a", "model": "yolo11n.pt"})
    assert job.weights is not None
    assert job.weights.sha256 == _sha256(weights_file)


def test_an_unavailable_file_is_refused_with_the_alternatives(
    resolving: Claims, release: Release, jobs: JobRepository
) -> None:
    release.status = 404
    sentence = _refusal(resolving, {"job_id": "a", "model": "yolo11n.pt"})
    assert "PRETRAINED_URL" in sentence
    assert "make pretrained FILE=yolo11n.pt" in sentence
    assert "model='yolo11n'" in sentence
    assert jobs.get("a") is None


def test_weights_of_another_task_are_refused_even_if_their_name_suggests_the_right_task(
    resolving: Claims, s3_client: S3Client, bucket: str, weights_file: Path
) -> None:
    s3_client.upload_file(str(weights_file), bucket, "pretrained/company.pt")
    params = {"model": "company.pt", "task": "segment", "dataset": "s3://b/data.zip"}
    assert "model='company.pt' is a model for detect, but the task is segment" in _refusal(resolving, params)


def test_a_file_in_s3_is_also_identified_by_its_hash(
    resolving: Claims, s3_client: S3Client, bucket: str, weights_file: Path
) -> None:
    s3_client.upload_file(str(weights_file), bucket, "start/tiny.pt")
    job = resolving({"model": f"s3://{bucket}/start/tiny.pt"})
    assert job.weights is not None
    assert (job.weights.sha256, job.weights.job_id) == (_sha256(weights_file), None)
    with pytest.raises(ObjectNotFound, match="does not exist at"):
        resolving({"model": f"s3://{bucket}/absent.pt"})


@pytest.mark.parametrize("model", ["job:trained", "s3://{bucket}/checkpoints/trained/best.pt"])
def test_fine_tuning_a_job_starts_from_its_best_pt_and_records_it_as_the_parent(
    resolving: Claims, jobs: JobRepository, trained_job_id: str, weights_file: Path, bucket: str,
    model: str, connection: psycopg.Connection[Any],
) -> None:  # fmt: skip
    job = resolving({"job_id": "tuned", "model": model.format(bucket=bucket)})
    assert job.resume is None
    assert job.weights is not None
    assert (job.weights.sha256, job.weights.job_id) == (_sha256(weights_file), trained_job_id)
    row = recorded(jobs, "tuned")
    assert (row.parent_job_id, row.resumed_epoch) == (trained_job_id, None)
    found = {
        each.job_id: (each.parent_job_id, each.fine_tuned)
        for each in JobListing(connection).find_lineage("tuned").jobs
    }
    assert found == {trained_job_id: (None, False), "tuned": (trained_job_id, True)}


def test_fine_tuning_a_version_starts_from_its_file(
    resolving: Claims,
    jobs: JobRepository,
    trained_job_id: str,
    s3_client: S3Client,
    bucket: str,
    connection: psycopg.Connection[Any],
) -> None:
    connection.autocommit = False
    assert "model='model:digits': name='digits' is not a registered model" in _refusal(
        resolving, {"model": "model:digits"}
    )
    version = register_copy(
        connection, Bucket(s3_client, bucket), "digits", job_id=trained_job_id, run_id="r"
    )
    connection.commit()
    sentence = _refusal(resolving, {"model": "model:digits"})
    assert "no version of this model is in production; name one, such as model:digits@1" in sentence
    assert "version=7 of model digits does not exist" in _refusal(resolving, {"model": "model:digits@7"})
    job = resolving({"job_id": "tuned", "model": "model:digits@1"})
    assert job.weights is not None
    assert (job.weights.path, job.weights.sha256) == (version.path, version.sha256)
    assert recorded(jobs, "tuned").parent_job_id == trained_job_id
    connection.commit()
    promote_over_present(connection, Bucket(s3_client, bucket), "digits", 1, by="ada", reason=None)
    connection.commit()
    assert resolving({"job_id": "newer", "model": "model:digits"}).weights == job.weights


MODELS = (
    "model:digits",
    "model:digits@1",
    "s3://{bucket}/models/digits/versions/1/best.pt",
    "s3://{bucket}/models/digits/production/best.pt",
)
"""All ways to name version 1 of the model digits, which is in production."""


def test_a_promoted_version_with_one_byte_changed_is_refused_although_its_row_agrees(
    trained_job_id: str, connection: psycopg.Connection[Any], s3_client: S3Client, bucket: str
) -> None:
    key = new_key()
    signing = trusting(key, signs_with=key)
    version = register_copy(
        connection, Bucket(s3_client, bucket), "digits", job_id=trained_job_id, run_id="r"
    )
    promote_over_present(
        connection, Bucket(s3_client, bucket), "digits", 1, by="ada", reason=None, signing=signing
    )
    weights = finder(s3_client, bucket, connection, signing=signing)
    for model in MODELS:
        found = weights.find(model.format(bucket=bucket), "detect", "tuned")
        assert found is not None
        assert (found.path, found.sha256) == (version.path, version.sha256)

    content = bytearray(body(s3_client, version.path))
    content[-1] ^= 1
    tamper(connection, s3_client, version, bytes(content))
    for model in MODELS:
        named = model.format(bucket=bucket)
        for ask in (weights.find, weights.check):
            with pytest.raises(
                SpecError, match=rf"model='{named}': The signature of .* vouches for digits@1"
            ) as refusal:
                ask(named, "detect", "tuned")
            assert refusal.value.field == "model"


def test_a_version_with_a_missing_or_untrusted_signature_is_refused(
    trained_job_id: str, connection: psycopg.Connection[Any], s3_client: S3Client, bucket: str
) -> None:
    key = new_key()
    register_copy(connection, Bucket(s3_client, bucket), "digits", job_id=trained_job_id, run_id="r")
    weights = finder(s3_client, bucket, connection, signing=trusting(key))
    # The version was never promoted, so it needs no signature.
    assert weights.find("model:digits@1", "detect", "tuned") is not None
    promote_over_present(connection, Bucket(s3_client, bucket), "digits", 1, by="ada", reason=None)
    with pytest.raises(SpecError, match=r"best\.pt\.sig does not exist\. .* force: true to sign it"):
        weights.find("model:digits@1", "detect", "tuned")
    other = new_key()
    promote_over_present(
        connection, Bucket(s3_client, bucket), "digits", 1,
        by="ada", reason=None, force=True, signing=trusting(other, signs_with=other),
    )  # fmt: skip
    with pytest.raises(SpecError, match="which is not among the trusted keys"):
        weights.find("model:digits@1", "detect", "tuned")


@pytest.mark.parametrize(
    ("params", "part"),
    [
        ({"model": "job:nobody"}, "model='job:nobody': there is no such job"),
        ({"model": "job:begun"}, "model='job:begun': the job is queued and has recorded no best.pt"),
        ({"model": "job:own", "job_id": "own"}, "model='job:own' is this job itself"),
    ],
)
def test_a_job_without_a_best_pt_cannot_be_fine_tuned(
    resolving: Claims, params: dict[str, Any], part: str
) -> None:
    resolving({"job_id": "begun", "model": "yolo11n"})
    assert part in _refusal(resolving, params)


def test_a_best_pt_that_was_replaced_is_refused(
    resolving: Claims, trained_job_id: str, s3_client: S3Client, bucket: str
) -> None:
    s3_client.put_object(Bucket=bucket, Key=f"checkpoints/{trained_job_id}/best.pt", Body=b"other")
    assert "recorded: the file has been replaced since then" in _refusal(resolving, {"model": "job:trained"})


def test_a_resumed_job_keeps_its_initial_weights(
    resolving: Claims,
    jobs: JobRepository,
    trained_job_id: str,
    s3_client: S3Client,
    bucket: str,
    tmp_path: Path,
) -> None:
    begun = resolving({"job_id": "tuned", "model": f"job:{trained_job_id}"})
    state = tmp_path / "last.pt"
    state.write_bytes(b"state")
    own = CheckpointStore(Bucket(s3_client, bucket), run_id=RUN.run_id)
    own.upload(Checkpoint.of_file(state, epoch=1), "tuned", "last", "8.4")
    s3_client.delete_object(Bucket=bucket, Key=f"checkpoints/{trained_job_id}/best.pt")
    gone_on = resolving(
        {"job_id": "tuned", "model": f"job:{trained_job_id}"}, replace(RUN, run_id="manual__2")
    )
    assert gone_on.weights == begun.weights
    assert gone_on.identity() == begun.identity()
    assert recorded(jobs, "tuned").parent_job_id == trained_job_id


@pytest.mark.parametrize(
    ("model", "part"),
    [
        ("yolo11n", None),
        ("yolo11n.pt", None),
        ("job:trained", None),
        ("s3://{bucket}/checkpoints/trained/best.pt", None),
        ("yolov11n.pt", "nor published by Ultralytics"),
        ("job:nobody", "there is no such job"),
        ("model:digits@1", "is not a registered model"),
    ],
)
def test_a_model_can_be_checked_without_a_download(
    trained_job_id: str, release: Release, connection: psycopg.Connection[Any], s3_client: S3Client,
    bucket: str, model: str, part: str | None,
) -> None:  # fmt: skip
    weights = finder(s3_client, bucket, connection, release.url)
    if part is None:
        weights.check(model.format(bucket=bucket), "detect", "a")
    else:
        with pytest.raises(SpecError, match=part) as refusal:
            weights.check(model, "detect", "a")
        assert refusal.value.field == "model"
    assert release.requested == []


def test_a_check_inspects_the_stored_weights(
    weights_file: Path, connection: psycopg.Connection[Any], s3_client: S3Client, bucket: str
) -> None:
    s3_client.upload_file(str(weights_file), bucket, "pretrained/company.pt")
    weights_finder = finder(s3_client, bucket, connection)
    weights_finder.check("company.pt", "detect", "a")
    with pytest.raises(SpecError, match="is a model for detect, but the task is pose"):
        weights_finder.check("company.pt", "pose", "a")
    with pytest.raises(SpecError, match="PRETRAINED_URL is off") as refusal:
        weights_finder.check("yolo11n.pt", "detect", "a")
    assert refusal.value.field == "model"
    assert "sha256" not in s3_client.head_object(Bucket=bucket, Key="pretrained/company.pt")["Metadata"]
