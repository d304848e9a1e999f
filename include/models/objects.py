"""The files of a model in S3, and verified copies of them."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from include.checkpoints.errors import CheckpointNotFound
from include.s3.bucket import Bucket
from include.s3.errors import ConditionFailed, CorruptObject, ObjectNotFound, StoreBusy
from include.s3.layout import SIGNATURE_SUFFIX, build_production_key, build_version_key, find_production_name
from include.s3.location import JOB_ID, JOB_ID_RULE, S3Location
from include.s3.reading import head_object, read_object
from include.s3.upload import build_unchanged_condition, copy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_s3 import S3Client

    from include.models.signing import Signature
    from include.models.version import ModelVersion
    from include.s3.download import FetchedObject
    from include.s3.local_file import TransferLimits
    from include.s3.upload import Condition

log = logging.getLogger(__name__)

MODEL_NAME, MODEL_NAME_RULE = JOB_ID, JOB_ID_RULE


def locate_version(bucket: Bucket, name: str, version: int) -> S3Location:
    """Return the location of the version's own, immutable file. Raises ValueError for a bad name."""
    return bucket.at(build_version_key(_require_valid(name), version))


def locate_production(bucket: Bucket, name: str) -> S3Location:
    """Return the location of the file in production. Raises ValueError for a bad name."""
    return bucket.at(build_production_key(_require_valid(name)))


def find_promoted_model(bucket: Bucket, location: S3Location) -> str | None:
    """Return the name of the model whose production file is at this location, or None."""
    return find_production_name(location.key) if location.bucket == bucket.name else None


def locate_signature(signed: S3Location) -> S3Location:
    """Return the location of the signature of a model's file."""
    return S3Location(signed.bucket, f"{signed.key}{SIGNATURE_SUFFIX}")


def build_metadata(found: FetchedObject, name: str, version: int) -> dict[str, str]:
    """Return the metadata of a version's file and of its copy in production.

    The metadata are those of best.pt, with the model's name and version added.
    """
    return {**found.metadata, "sha256": found.sha256, "model": name, "model-version": str(version)}


def read_version(client: S3Client, version: ModelVersion) -> FetchedObject:
    """Read every byte of the version's own file, and return its identity.

    Raises CheckpointNotFound or CorruptObject if the file is missing or damaged, and other StoreErrors.
    """
    location = S3Location.parse(version.path)
    remedy = (
        f"{version} was not promoted. Restore the file from a backup, or from the best.pt of job "
        f"{version.job_id} if that has SHA-256 {version.sha256}; or promote another version"
    )
    try:
        found = read_object(client, location)
    except ObjectNotFound as error:
        raise CheckpointNotFound(f"{location.uri} does not exist, so {remedy}") from error
    except CorruptObject as error:
        raise CorruptObject(f"{error}. So {remedy}") from error
    if (found.sha256, found.size) != (version.sha256, version.size):
        raise CorruptObject(
            f"{location.uri} is damaged: it has {found.size} bytes with SHA-256 {found.sha256}, but "
            f"{version.size} bytes with SHA-256 {version.sha256} were registered, so {remedy}"
        )
    return found


def copy_verified(
    client: S3Client,
    source: S3Location,
    found: FetchedObject,
    to: S3Location,
    metadata: Mapping[str, str],
    limits: TransferLimits,
    condition: Condition | None = None,
) -> None:
    """Copy `source`, whose identity is `found`, to `to` and read the copy back.

    Nothing is copied if `to` is already an intact copy. The copy is written only under `condition`; by
    default, `to` must not have changed in the meantime. Raises StoreBusy if another process writes there too;
    CorruptObject if the source or the copy differs from `found`; and other StoreErrors.
    """
    head = head_object(client, to)
    if (
        head
        and metadata.items() <= head["Metadata"].items()
        and _is_whole(client, to, found.sha256, found.size)
    ):
        log.info("%s is already an intact copy of %s.", to.uri, source.uri)
        return
    if condition is None:
        condition = build_unchanged_condition(head and head["ETag"])
    try:
        copy(client, source, found.etag, found.size, to, metadata, limits, condition)
    except (ConditionFailed, ObjectNotFound):
        _require_copied(client, source, found, to, metadata)
    if not _is_whole(client, to, found.sha256, found.size):
        raise CorruptObject(
            f"{to.uri} differs from {source.uri}, from which it was just copied (SHA-256 {found.sha256} "
            "was expected); check the S3 server, then clear this task"
        )
    log.info("Copied %s to %s and read it back: SHA-256 %s.", source.uri, to.uri, found.sha256)


def place_signature(
    client: S3Client, signature: Signature, signed: S3Location, metadata: Mapping[str, str]
) -> None:
    """Store a signature next to the file `signed`, unless it is already stored there.

    The object gets this metadata and the signature's hash. Raises StoreBusy, and replaces nothing, if another
    process writes there too; also raises other StoreErrors.
    """
    to = locate_signature(signed)
    head = head_object(client, to)
    if head and _is_whole(client, to, signature.sha256, len(signature.content)):
        return
    condition = build_unchanged_condition(head and head["ETag"])
    described = {**metadata, "sha256": signature.sha256}
    try:
        Bucket(client, to.bucket).put(to.key, signature.content, metadata=described, condition=condition)
    except ConditionFailed as error:
        raise _explain_change(to) from error
    log.info("Stored %s.", to.uri)


def _require_copied(
    client: S3Client, source: S3Location, found: FetchedObject, to: S3Location, metadata: Mapping[str, str]
) -> None:
    """Raise an error unless the copy succeeded after all.

    boto3 repeats a request whose response was lost. The condition then fails because our own copy is there.
    """
    current = head_object(client, source)
    if current is None or current["ETag"] != found.etag:
        raise CorruptObject(
            f"{source.uri} was replaced or removed while it was being copied; nothing was stored. Find out "
            "who else writes there, then clear this task"
        )
    current = head_object(client, to)
    if current is None or not metadata.items() <= current["Metadata"].items():
        # Most likely, a process that lost the lock without noticing wrote there; a retry replaces its object.
        raise _explain_change(to)


def _explain_change(location: S3Location) -> StoreBusy:
    """Return the error for an object that another process has changed."""
    return StoreBusy(f"{location.uri} was changed in the meantime, so it was not overwritten; try again")


def _is_whole(client: S3Client, location: S3Location, sha256: str, size: int) -> bool:
    try:
        found = read_object(client, location)
    except (ObjectNotFound, CorruptObject):
        return False
    return (found.sha256, found.size) == (sha256, size)


def _require_valid(name: str) -> str:
    if not re.match(MODEL_NAME, name):
        raise ValueError(f"name={name!r} is not a valid name of a model: it must be {MODEL_NAME_RULE}")
    return name
