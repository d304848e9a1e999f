"""Jobs with a best.pt in S3, and model versions made from them, for tests of registration and promotion."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from include.checkpoints.checkpoint import Checkpoint
from include.checkpoints.stored import build_metadata
from include.models.promotion import promote, register_copy
from include.models.repository import ModelRepository
from include.models.request import ChosenVersion
from include.s3.bucket import Bucket
from tests.support.stored_objects import metadata, replace

if TYPE_CHECKING:
    import psycopg
    from mypy_boto3_s3 import S3Client

    from include.models.signing import ModelSigning
    from include.models.version import ModelVersion
    from include.s3.local_file import TransferLimits


def registered(models: ModelRepository, job_id: str, name: str = "digits", **given: Any) -> ModelVersion:
    """Register the job as a version of the model `name`, with a file that does not exist."""
    values: dict[str, Any] = {
        "run_id": "run1",
        "sha256": "a" * 64,
        "size": 5_000_000,
        "place": lambda version: f"s3://bucket/models/{name}/versions/{version}/best.pt",
    } | given
    return models.register(name, job_id=job_id, **values)


def trained(
    connection: psycopg.Connection[Any], client: S3Client, bucket: str, job_id: str, content: bytes
) -> str:
    """Add a completed job whose best.pt is `content`; return the SHA-256 of the content."""
    sha256, key = hashlib.sha256(content).hexdigest(), f"checkpoints/{job_id}/best.pt"
    best = Checkpoint(f"s3://{bucket}/{key}", sha256, len(content), epoch=2)
    client.put_object(
        Bucket=bucket, Key=key, Body=content, Metadata=build_metadata(best, job_id, "train run", "8.4")
    )
    connection.execute(
        "INSERT INTO training_jobs (job_id, status, run_id, best_checkpoint_path, best_checkpoint_sha256, "
        "best_checkpoint_size) VALUES (%s, 'completed', 'train run', %s, %s, %s)",
        [job_id, best.path, best.sha256, best.size],
    )
    connection.commit()
    return sha256


def version_of(
    connection: psycopg.Connection[Any], client: S3Client, bucket: str, content: bytes, **given: Any
) -> ModelVersion:
    """Register the next version of the model digits from a new job whose best.pt is `content`."""
    job_id = f"job-{len(ModelRepository(connection).list()) + 1}"
    trained(connection, client, bucket, job_id, content)
    return register_copy(connection, Bucket(client, bucket), "digits", job_id=job_id, run_id="run1", **given)


def promote_over_present(
    connection: psycopg.Connection[Any],
    bucket: Bucket,
    name: str,
    version: int,
    *,
    by: str,
    reason: str | None,
    force: bool = False,
    signing: ModelSigning | None = None,
    limits: TransferLimits | None = None,
) -> ModelVersion:
    """Promote the version, naming the one that is now in production as the version to replace."""
    present = ModelRepository(connection).find_production(name)
    expected = present.version if present else None
    chosen = ChosenVersion(name=name, version=version, expected=expected, reason=reason, force=force)
    return promote(connection, bucket, chosen, by=by, signing=signing, limits=limits)


def tamper(
    connection: psycopg.Connection[Any], client: S3Client, version: ModelVersion, content: bytes
) -> None:
    """Change the version's file, with its hash and size in S3 and in the database."""
    sha256 = hashlib.sha256(content).hexdigest()
    replace(client, version.path, content, metadata(client, version.path) | {"sha256": sha256})
    connection.execute(
        "UPDATE model_versions SET sha256 = %s, size = %s WHERE name = %s AND version = %s",
        [sha256, len(content), version.name, version.version],
    )
    connection.commit()
