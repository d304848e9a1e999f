"""Where the files of a model are, and how one becomes a copy of another that was read back."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from include.checkpoints.errors import CheckpointNotFound
from include.s3.errors import (
    CorruptObject,
    ObjectNotFound,
    StoreBusy,
    is_condition_failed,
    is_not_found,
    translate_s3_errors,
)
from include.s3.layout import production_key, version_key
from include.s3.location import JOB_ID, JOB_ID_RULE, S3Location
from include.s3.reading import head_object, read_object
from include.s3.upload import copy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_s3 import S3Client

    from include.models.version import ModelVersion
    from include.s3.bucket import Bucket
    from include.s3.download import FetchedObject
    from include.s3.upload import Condition, TransferLimits

log = logging.getLogger(__name__)

MODEL_NAME, MODEL_NAME_RULE = JOB_ID, JOB_ID_RULE


def version_location(bucket: Bucket, name: str, version: int) -> S3Location:
    """Where the version's own file is, which is never replaced; raises ValueError for an impossible name."""
    return bucket.at(version_key(_checked(name), version))


def production_location(bucket: Bucket, name: str) -> S3Location:
    """Where the file in production is; raises ValueError for an impossible name."""
    return bucket.at(production_key(_checked(name)))


def identity_of(found: FetchedObject, name: str, version: int) -> dict[str, str]:
    """Return the metadata of a version's file and of its copy in production.

    They are those of best.pt, and which version it is.
    """
    return {**found.metadata, "sha256": found.sha256, "model": name, "model-version": str(version)}


def read_version(client: S3Client, version: ModelVersion) -> FetchedObject:
    """Read every byte of the version's own file, and return what it is.

    Raises CheckpointNotFound or CorruptObject where it is not what was registered, and other StoreErrors.
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
            f"{location.uri} is damaged: it has {found.size} bytes of SHA-256 {found.sha256}, but "
            f"{version.size} of {version.sha256} were registered, so {remedy}"
        )
    return found


def place(
    client: S3Client,
    source: S3Location,
    found: FetchedObject,
    to: S3Location,
    metadata: Mapping[str, str],
    limits: TransferLimits,
) -> None:
    """Make the object at `to` a copy of `source`, which was `found` there, and read it back.

    Nothing is copied where that is so already. Only what is seen there first is replaced: raises StoreBusy
    where somebody else writes too, and CorruptObject where source or copy are not what was found.
    """
    head = head_object(client, to)
    if head and metadata.items() <= head["Metadata"].items() and _is_whole(client, to, found):
        log.info("%s is a whole copy of %s already.", to.uri, source.uri)
        return
    condition: Condition = {"IfMatch": head["ETag"]} if head else {"IfNoneMatch": "*"}
    _copy(client, source, found, to, metadata, limits, condition)
    if not _is_whole(client, to, found):
        raise CorruptObject(
            f"{to.uri} is not the copy of {source.uri} that was made of it just now (SHA-256 {found.sha256} "
            "was expected); check the S3 server, then clear this task"
        )
    log.info("Copied %s to %s and read it back: SHA-256 %s.", source.uri, to.uri, found.sha256)


def _copy(
    client: S3Client,
    source: S3Location,
    found: FetchedObject,
    to: S3Location,
    metadata: Mapping[str, str],
    limits: TransferLimits,
    condition: Condition,
) -> None:
    from botocore.exceptions import ClientError

    with translate_s3_errors(client, to):
        try:
            copy(client, source, found.etag, to, metadata, limits, condition)
        except ClientError as error:
            if not (is_condition_failed(error) or is_not_found(error)):
                raise
            there = head_object(client, source)
            if there is None or there["ETag"] != found.etag:
                raise CorruptObject(
                    f"{source.uri} was replaced or removed while it was copied; nothing was stored. Somebody "
                    "else writes there: find out who, then clear this task"
                ) from error
            there = head_object(client, to)
            if there and metadata.items() <= there["Metadata"].items():
                return  # it had succeeded, and the answer was lost: the second try met our own copy
            # Most likely by somebody who has lost the lock without noticing: trying again replaces it.
            raise StoreBusy(
                f"{to.uri} was changed by somebody else just now, so it was left as it is; try again"
            ) from error


def _is_whole(client: S3Client, location: S3Location, wanted: FetchedObject) -> bool:
    try:
        found = read_object(client, location)
    except (ObjectNotFound, CorruptObject):
        return False
    return (found.sha256, found.size) == (wanted.sha256, wanted.size)


def _checked(name: str) -> str:
    if not re.match(MODEL_NAME, name):
        raise ValueError(f"name={name!r} cannot name a model: it must be {MODEL_NAME_RULE}")
    return name
