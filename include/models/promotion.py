"""Registering and promoting versions: S3 first, the database last, one promotion at a time."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Unpack

from include.checkpoints.errors import CheckpointNotFound
from include.database import Statements
from include.jobs.repository import JobRepository
from include.models.errors import NotRegistered, PromotionRefused, VersionUnknown
from include.models.objects import (
    build_metadata,
    copy_verified,
    locate_production,
    locate_version,
    place_signature,
    read_version,
)
from include.models.repository import ModelRepository
from include.models.request import ChosenVersion
from include.models.signing import ModelSigning
from include.models.version import Stage
from include.s3.download import FetchedObject
from include.s3.errors import CorruptObject
from include.s3.local_file import TransferLimits
from include.s3.location import S3Location
from include.s3.reading import head_object

if TYPE_CHECKING:
    from datetime import datetime

    from mypy_boto3_s3 import S3Client
    from psycopg import Connection

    from include.models.repository import Evidence
    from include.models.request import PromotionRequest
    from include.models.signing import Signature
    from include.models.version import ModelVersion
    from include.s3.bucket import Bucket

log = logging.getLogger(__name__)


def register_copy(
    connection: Connection[Any],
    bucket: Bucket,
    name: str,
    *,
    job_id: str,
    run_id: str | None,
    limits: TransferLimits | None = None,
    **evidence: Unpack[Evidence],
) -> ModelVersion:
    """Register a job's recorded best.pt as the model's next version, which is a candidate.

    The version gets its own file, copied within S3 and read back before the row is written. If the job
    already has a version of the model, that version is returned unchanged. The connection must be idle.

    Raises NotRegistered if the job has no recorded best.pt, if its version has a different file, or if the
    job is deleted meanwhile; CheckpointNotFound or CorruptObject if the recorded file is missing or damaged;
    and other StoreErrors.
    """
    source, found = _find_recorded_best(connection, bucket.client, job_id)

    def place_version(version: int) -> str:
        to, identity = locate_version(bucket, name, version), build_metadata(found, name, version)
        copy_verified(bucket.client, source, found, to, identity, limits or TransferLimits())
        # Until the version is recorded, the job that its history refers to cannot be deleted.
        job = Statements(connection).fetch_one("hold_job", job_id=job_id)
        if job is None or job.best_checkpoint_sha256 != found.sha256:
            raise NotRegistered(
                f"Job {job_id} was deleted or started again while its best.pt was being registered; register "
                "the best.pt of another job"
            )
        return to.uri

    registered = ModelRepository(connection).register(
        name,
        job_id=job_id,
        run_id=run_id,
        sha256=found.sha256,
        size=found.size,
        place=place_version,
        **evidence,
    )
    log.info("Job %s is %s, %s.", job_id, registered, registered.path)
    return registered


def find_version_to_promote(
    connection: Connection[Any], request: PromotionRequest, requested_at: datetime
) -> ChosenVersion:
    """Decide which version to promote and which one it replaces.

    Raises VersionUnknown, and PromotionRefused for a rollback if a version has been promoted since it was
    requested: the rollback was meant for another version.
    """
    models = ModelRepository(connection)
    present = models.find_production(request.name)
    if request.version is not None:
        chosen = models.require(request.name, request.version)
    elif present is not None and present.promoted_at is not None and present.promoted_at > requested_at:
        raise PromotionRefused(
            f"This rollback was triggered at {requested_at:%Y-%m-%d %H:%M:%S %Z}, but {present} was promoted "
            f"later, at {present.promoted_at:%Y-%m-%d %H:%M:%S %Z}. If you do not want that version either, "
            "trigger promote_model again"
        )
    elif (earlier := models.find_earlier(request.name)) is not None:
        chosen = earlier
    elif not models.list(request.name, limit=1):
        raise models.explain_unknown(request.name)
    else:
        now = f"version {present.version}" if present else "no version"
        raise VersionUnknown(
            f"An empty version means a rollback, but {now} of model {request.name} is in production, and no "
            "older version has ever been in production; give the number of the version to promote"
        )
    log.info("In production: %s. Promoting: %s.", present or "nothing", chosen)
    return ChosenVersion(
        name=chosen.name,
        version=chosen.version,
        expected=present.version if present else None,
        reason=request.reason,
        force=request.force,
    )


def promote(
    connection: Connection[Any],
    bucket: Bucket,
    chosen: ChosenVersion,
    *,
    by: str | None,
    signing: ModelSigning | None = None,
    limits: TransferLimits | None = None,
) -> ModelVersion:
    """Put the chosen version into production, archive the previous one, and return the new one.

    The version's own file is read, compared with the registered hash, and signed (or its existing signature
    is verified). The file is copied within S3 to the production key, with its metadata, and read back. Only
    then do the rows change. After an interruption, promote again: this repairs the production key even if the
    version is already in production.

    Raises PromotionRefused if a version other than `chosen.expected` is in production now, or if the gate
    rejected the version and `chosen.force` is off; PromotionConflict if another promotion is under way;
    SignatureRefused as ModelSigning.obtain does; VersionUnknown, and StoreErrors. The connection must be
    idle.
    """
    models = ModelRepository(connection)
    registered = models.require(chosen.name, chosen.version)
    # Read before the lock is taken, which must be held only briefly; a version's own file never changes.
    found = read_version(bucket.client, registered)
    signature = (signing or ModelSigning()).obtain(bucket.client, registered, force=chosen.force)
    with connection.transaction():
        version = models.begin_promotion(chosen.name, chosen.version)
        if version.stage != Stage.PRODUCTION:
            _require_promotable(version, models.find_production(chosen.name), chosen)
        _place_in_production(bucket, version, found, signature, limits or TransferLimits())
        if signature:
            models.record_signature(chosen.name, chosen.version, signature.sha256)
        if version.stage == Stage.PRODUCTION:
            log.info("%s is already in production.", version)
            return models.require(chosen.name, chosen.version)
        promoted = models.promote(chosen.name, chosen.version, by=by, reason=chosen.reason)
    log.info("Promoted %s; SHA-256 %s.", promoted, promoted.sha256)
    return promoted


def _place_in_production(
    bucket: Bucket,
    version: ModelVersion,
    found: FetchedObject,
    signature: Signature | None,
    limits: TransferLimits,
) -> None:
    """Copy the version's file to the production key, and store its signature beside both files."""
    own, production = S3Location.parse(version.path), locate_production(bucket, version.name)
    identity = build_metadata(found, version.name, version.version)
    if signature:
        place_signature(bucket.client, signature, own, identity)
    copy_verified(bucket.client, own, found, production, identity, limits)
    if signature:
        place_signature(bucket.client, signature, production, identity)


def _require_promotable(version: ModelVersion, present: ModelVersion | None, chosen: ChosenVersion) -> None:
    current = present.version if present else None
    if current != chosen.expected:
        before, now = (
            f"version {number}" if number else "no version" for number in (chosen.expected, current)
        )
        raise PromotionRefused(
            f"{version} was meant to replace {before}, but {now} is in production now: another promotion "
            "came first. Compare both, and promote this version with promote_model if you still want it"
        )
    if version.stage == Stage.REJECTED and not chosen.force:
        raise PromotionRefused(
            f"{version} was rejected by its gate ({version.reason}); trigger promote_model with force: true "
            "to promote it anyway"
        )


def _find_recorded_best(
    connection: Connection[Any], client: S3Client, job_id: str
) -> tuple[S3Location, FetchedObject]:
    job = JobRepository(connection).get(job_id)
    if job is None:
        raise NotRegistered(f"Job {job_id} has no row in training_jobs; train it, or give another job")
    best = job.get_checkpoint("best")
    if best is None or best.sha256 is None or best.size is None:
        raise NotRegistered(
            f"Job {job_id} (status {job.status}) has recorded no best.pt with a checksum; wait until it is "
            "completed, or train it again"
        )
    location = S3Location.parse(best.path)
    head = head_object(client, location)
    if head is None:
        raise CheckpointNotFound(
            f"{location.uri} does not exist, although job {job_id} has recorded it; train the job again"
        )
    metadata = head["Metadata"]
    if (metadata.get("sha256"), head["ContentLength"]) != (best.sha256, best.size):
        raise CorruptObject(
            f"{location.uri} holds {head['ContentLength']} bytes, SHA-256 {metadata.get('sha256')}, but job "
            f"{job_id} has recorded {best.size} bytes, SHA-256 {best.sha256}; train the job again"
        )
    return location, FetchedObject(best.sha256, best.size, head["ETag"], metadata)
