"""Pretrained weights in S3 at `pretrained/{name}`: each file is downloaded once for all jobs and workers.

The object's metadata contain the file's SHA-256. This project records it when it stores the file or, if
another client uploaded the file, when it first uses the file. A name always means the same file, unless the
object is replaced on purpose.
"""

from __future__ import annotations

import logging
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from include.checkpoints.errors import UnsafeCheckpoint
from include.checkpoints.inspection.errors import InspectionError
from include.checkpoints.inspection.in_s3 import inspect_object
from include.checkpoints.inspection.inspect import inspect_file
from include.checkpoints.stored import parse_checkpoint
from include.checkpoints.writer import ObjectWriter
from include.errors import FinalError
from include.jobs.model_reference import WEIGHTS_NAME
from include.s3.errors import ConditionFailed, CorruptObject, FencedOut
from include.s3.layout import build_pretrained_key
from include.s3.local_file import LocalFile, TransferLimits
from include.s3.reading import read_settled_object
from include.s3.upload import set_metadata
from include.training.architectures import (
    find_architecture,
    read_published_weights,
    read_ultralytics_version,
    suggest_weights,
)
from include.weights.download import DownloadFailed, DownloadLimits, download
from include.weights.initial_weights import InitialWeights

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import HeadObjectOutputTypeDef

    from include.s3.bucket import Bucket
    from include.s3.listing import ListedObject
    from include.s3.location import S3Location

log = logging.getLogger(__name__)

SOURCE = "source"
"""Metadata key for the origin of the file: a URL, or `upload`."""


class WeightsUnavailable(FinalError):
    """A pretrained file is not available; the message says what to do about it."""


class PretrainedStore:
    """The pretrained weights in one bucket.

    `url` is the base URL for downloading Ultralytics' files that S3 lacks; None turns downloads off.
    """

    def __init__(self, bucket: Bucket, url: str | None, limits: DownloadLimits | None = None) -> None:
        self._bucket, self._url = bucket, url
        self._limits = limits or DownloadLimits()

    def locate(self, name: str) -> S3Location:
        """Return the location of the file `name`."""
        return self._bucket.at(build_pretrained_key(name))

    def require(self, name: str) -> InitialWeights:
        """Return the file, downloading and storing it if S3 does not have it.

        Raises WeightsUnavailable, UnsafeCheckpoint for a file that must not be loaded, and the other
        StoreErrors.
        """
        head = self._bucket.head(build_pretrained_key(name))
        if head is not None:
            return self._ensure_pinned(name, head)
        url = self._find_address(name)
        with TemporaryDirectory(prefix="pretrained-") as folder:
            file = Path(folder) / name
            try:
                download(url, file, self._limits)
            except DownloadFailed as error:
                raise WeightsUnavailable(self._explain_missing(name, f"{url} {error}")) from error
            try:
                return self.put(file, name, url)
            except InspectionError as error:
                raise WeightsUnavailable(
                    self._explain_missing(name, f"the file from {url} {error}")
                ) from error

    def is_stored(self, name: str) -> bool:
        """Return whether the file is in S3, without downloading it.

        False means that a download can be tried: Ultralytics publishes the file, and downloads are on. Raises
        WeightsUnavailable if the file is not in S3 and a download cannot be tried, and StoreErrors.
        """
        is_stored = self._bucket.head(build_pretrained_key(name)) is not None
        if not is_stored:
            self._find_address(name)
        return is_stored

    def list_stored(self, limit: int) -> tuple[dict[str, ListedObject], bool]:
        """Return the weights among the first `limit` stored files, by name, and whether there are more files.

        Raises StoreErrors.
        """
        prefix = build_pretrained_key("")
        found = list(islice(self._bucket.list_objects(prefix), limit + 1))
        named = ((item.location.key.removeprefix(prefix), item) for item in found[:limit])
        return {name: item for name, item in named if WEIGHTS_NAME.match(name)}, len(found) > limit

    def put(self, file: Path, name: str, source: str = "upload", *, replace: bool = False) -> InitialWeights:
        """Inspect the local file, store it as `name`, and return the stored file.

        A file that is already stored is kept and returned; with `replace`, it is replaced. Raises
        InspectionError for a file that must not be loaded, FileNotFoundError, the errors of `require`, and
        StoreErrors. With `replace`, raises FencedOut if another process stored the file at the same moment.
        """
        contents = inspect_file(file)
        limits, location = TransferLimits(), self.locate(name)
        local = LocalFile.read(file, limits)
        metadata = {"sha256": local.sha256, "epoch": "-1", SOURCE: source, "task": contents.task}
        writer = ObjectWriter(self._bucket, limits)
        head = writer.find(location)
        if head is None or replace:
            try:
                writer.put(local, location, metadata, None)
            except FencedOut:
                if replace:
                    raise
                log.info("%s was just stored by another run.", location.uri)
            else:
                log.info("Stored %s from %s: SHA-256 %s.", location.uri, source, local.sha256)
                return InitialWeights(path=location.uri, sha256=local.sha256)
        return self.require(name)

    def _find_address(self, name: str) -> str:
        if name not in read_published_weights():
            raise WeightsUnavailable(self._explain_unknown(name))
        if self._url is None:
            raise WeightsUnavailable(self._explain_missing(name, "PRETRAINED_URL is off"))
        return f"{self._url.rstrip('/')}/{name}"

    def _ensure_pinned(self, name: str, head: HeadObjectOutputTypeDef) -> InitialWeights:
        if (recorded := self._read_recorded(name, head)) is not None:
            return recorded
        try:
            return InitialWeights(path=self.locate(name).uri, sha256=self._pin(name, head))
        except (CorruptObject, UnsafeCheckpoint):
            # Another run may have replaced the object in the meantime, by recording the hash.
            head_now = self._bucket.head(build_pretrained_key(name))
            recorded = self._read_recorded(name, head_now) if head_now is not None else None
            if recorded is None:
                raise
            return recorded

    def _read_recorded(self, name: str, head: HeadObjectOutputTypeDef) -> InitialWeights | None:
        """Return the file if its SHA-256 is in the object's metadata."""
        uri = self.locate(name).uri
        found = parse_checkpoint(head["Metadata"], uri, head["ContentLength"])
        return InitialWeights(path=uri, sha256=found.sha256) if found else None

    def _pin(self, name: str, head: HeadObjectOutputTypeDef) -> str:
        """Record the SHA-256 of an object that another S3 client uploaded, and return it."""
        location = self.locate(name)
        contents = inspect_object(self._bucket.client, location, head["ContentLength"], head["ETag"])
        found = read_settled_object(self._bucket.client, location)
        replaced = UnsafeCheckpoint(
            f"{location.uri} was replaced while it was being read; try again once its upload has finished"
        )
        if found.etag != head["ETag"]:  # the object's current bytes were not inspected
            raise replaced
        metadata = {"sha256": found.sha256, "epoch": "-1", SOURCE: "upload", "task": contents.task}
        try:
            set_metadata(self._bucket.client, location, found, metadata)
        except ConditionFailed:
            raise replaced from None
        log.info("%s was uploaded by another client; recorded its SHA-256 as %s.", location.uri, found.sha256)
        return found.sha256

    def _explain_missing(self, name: str, why: str) -> str:
        stem = name.removesuffix(".pt")
        scratch = stem if find_architecture(stem) else "yolo26n"
        return (
            f"model={name!r} is not available: {self.locate(name).uri} does not exist, and {why}. Set "
            f"PRETRAINED_URL to a mirror, or store the file with `make pretrained FILE={name}`, or train "
            f"from scratch with model={scratch!r}"
        )

    def _explain_unknown(self, name: str) -> str:
        similar = suggest_weights(name)
        hint = f"give {similar!r} if you mean that, or " if similar else ""
        return (
            f"model={name!r} is neither at {self.locate(name).uri} nor published by Ultralytics "
            f"{read_ultralytics_version()}; {hint}store the file with `make pretrained FILE={name}`"
        )
