"""The uploads of one bucket: parts that have arrived, signed links for missing parts, completion and removal.

The bytes go straight from the client to S3. A small record beside them lists the announced files, so that any
process of the API server can continue an upload that another process began.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic import ValidationError

from include.datasets.parallel import map_in_order
from include.datasets.uploads.errors import UploadEnded, UploadIncomplete, UploadRefused, UploadUnknown
from include.datasets.uploads.plan import Upload
from include.limits import UPLOAD_BODY, UPLOAD_LINK_SECONDS
from include.refusals import list_some, show_value
from include.s3.client import PARALLEL_REQUESTS
from include.s3.errors import ConditionFailed, ObjectNotFound, ObjectTooLarge
from include.s3.layout import UPLOADS, build_upload_record_key, find_upload
from include.s3.listing import list_level
from include.s3.multipart import abort_multipart_upload, assemble_parts, begin_multipart_upload, list_parts
from include.s3.signed_links import NEW_OBJECT_HEADERS, sign_part, sign_upload

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from include.datasets.uploads.plan import UploadFile
    from include.s3.bucket import Bucket
    from include.s3.listing import ListedObject
    from include.s3.multipart import StoredPart
    from include.s3.upload import Condition

_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{16}")

_LARGEST_RECORD = 4 * UPLOAD_BODY
"""Maximum size of a record in bytes; it contains the announced files and S3's ids of multipart uploads."""

_EXAMPLES = 3


@dataclass(frozen=True)
class FilePart:
    """One part of an upload."""

    file: int
    """The position of its file in the list of files, counted from 0."""
    number: int
    """Counted from 1, within the file."""


@dataclass(frozen=True)
class PartLink:
    """A signed link with which a client sends a part."""

    part: FilePart
    """The part that the link is for."""
    url: str
    """The address to which the part is sent with PUT."""
    headers: dict[str, str]
    """The headers that must be sent with the part."""


class UploadStore:
    """The uploads under `uploads/`. Every method raises StoreErrors."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def begin(self, upload: Upload) -> Upload:
        """Prepare S3 for the files that are sent in parts, and store the record."""

        def prepare(file: UploadFile) -> UploadFile:
            if file.parts == 1:
                return file
            multipart_id = begin_multipart_upload(self._bucket, upload.build_key(file))
            return file.model_copy(update={"multipart_id": multipart_id})

        begun = upload.model_copy(
            update={"files": tuple(map_in_order(prepare, upload.files, PARALLEL_REQUESTS))}
        )
        self._write(begun, {"IfNoneMatch": "*"})
        return begun

    def find(self, upload_id: str) -> Upload:
        """Return the upload with this id. Raises UploadUnknown."""
        return self._read(upload_id)[0]

    def list_arrived(self, upload: Upload) -> list[list[int]]:
        """Return the numbers of the parts that are in S3, for each file.

        Until the upload is completed, this removes every file whose size differs from the announced size.
        Otherwise, the client could not send the file again, because a signed link cannot overwrite an
        existing object. SeaweedFS 4.48, for example, stores an empty object if the connection breaks after
        the headers.
        """
        stored = self._list_stored(upload)

        def find_arrived(file: UploadFile) -> list[int]:
            item = stored.get(file.path)
            if item is not None and item.size == file.size:
                return list(range(1, file.parts + 1))
            if item is not None and upload.completed_at is None:
                self._bucket.delete_listed(item)
            found = self._find_parts(upload, file)
            return [number for number, part in found.items() if part.size == file.measure_part(number)]

        return list(map_in_order(find_arrived, upload.files, PARALLEL_REQUESTS))

    def sign_links(self, upload: Upload, wanted: Iterable[FilePart], signer: S3Client) -> Iterator[PartLink]:
        """Sign a PUT for each part. The size is signed, too, so that S3 accepts no other size.

        Raises UploadEnded if the upload is complete or being removed, and UploadRefused for a part that the
        upload does not have.
        """
        if upload.completed_at is not None:
            raise UploadEnded(f"Upload {upload.upload_id} is complete: begin a new one for other files")
        if upload.removed_at is not None:
            raise UploadEnded(f"Upload {upload.upload_id} is being removed: begin a new one")
        for part in wanted:
            if part.file >= len(upload.files) or part.number > upload.files[part.file].parts:
                raise UploadRefused(
                    f"Upload {upload.upload_id} has no part {part.number} of file {part.file}"
                )
            yield self._sign_link(upload, part, signer)

    def complete(self, upload_id: str) -> Upload:
        """Verify that all files have arrived, assemble their parts, and end the upload.

        A repeated call is harmless. Raises UploadUnknown, and UploadIncomplete, which names files that are
        missing or were not announced.
        """
        upload, etag = self._read(upload_id)
        if upload.completed_at is not None:
            return upload
        if upload.removed_at is not None:
            raise _describe_unknown(upload_id)
        self._assemble(upload)
        stored = self._list_stored(upload)
        _require_all(upload, _find_lacking(upload.files, stored))
        if others := sorted(stored.keys() - {file.path for file in upload.files}):
            raise UploadIncomplete(
                f"Upload {upload_id} contains {show_value(others[0])}, which was not announced: begin a new "
                "upload"
            )
        completed = upload.model_copy(update={"completed_at": datetime.now(UTC)})
        try:
            self._write(completed, {"IfMatch": etag})
        except UploadUnknown:  # another request has since completed or removed it
            again = self.find(upload_id)
            if again.completed_at is None:
                raise
            return again
        return completed

    def remove(self, upload: Upload) -> tuple[int, int]:
        """Remove an upload and the files that have arrived; the caller must ensure that nothing uses them.

        Returns the number of removed files and their total size. Raises UploadUnknown if the upload has been
        completed or removed since the caller read it.
        """
        current, etag = self._read(upload.upload_id)
        if current.completed_at != upload.completed_at:
            raise _describe_change(upload.upload_id)
        # The record is changed first, so that nobody completes or uses the upload during the removal.
        ended = current.model_copy(update={"completed_at": None, "removed_at": datetime.now(UTC)})
        self._write(ended, {"IfMatch": etag})
        record = build_upload_record_key(upload.upload_id)
        for file in upload.files:
            if file.multipart_id is not None:
                location = self._bucket.at(upload.build_key(file))
                abort_multipart_upload(self._bucket.client, location, file.multipart_id)
        # The record is removed last: while it exists, the upload can be found, and its removal repeated.
        removed = self._bucket.delete_below(upload.prefix, lambda key: key != record)
        self._bucket.delete(record)
        return removed

    def find_unfinished(self, before: datetime) -> Iterator[Upload]:
        """Yield incomplete uploads that were begun before this time, including partly removed uploads."""
        pages = list_level(self._bucket.client, self._bucket.at(UPLOADS))
        folders = [found for page in pages for found in page if isinstance(found, str)]
        for folder in folders:
            try:
                upload = self.find(folder.removeprefix(UPLOADS).rstrip("/"))
            except UploadUnknown:
                continue
            if upload.completed_at is None and upload.created_at < before:
                yield upload

    def _sign_link(self, upload: Upload, part: FilePart, signer: S3Client) -> PartLink:
        file = upload.files[part.file]
        location, size = self._bucket.at(upload.build_key(file)), file.measure_part(part.number)
        if file.multipart_id is None:
            # The link may still be valid when the upload is completed, so it cannot replace an object.
            url = sign_upload(signer, location, size, UPLOAD_LINK_SECONDS)
            return PartLink(part, url, NEW_OBJECT_HEADERS)
        url = sign_part(signer, location, file.multipart_id, part.number, size, UPLOAD_LINK_SECONDS)
        return PartLink(part, url, {})

    def _assemble(self, upload: Upload) -> None:
        """Assemble the files that were sent in parts, after verifying the parts of all of them."""
        waiting = _find_lacking(upload.files, self._list_stored(upload))
        found = map_in_order(lambda file: self._find_parts(upload, file), waiting, PARALLEL_REQUESTS)
        arrived = zip(waiting, found, strict=True)
        whole = {file: parts for file, parts in arrived if _is_whole(file, parts)}
        if cut := [file for file in waiting if file not in whole]:  # another request may have assembled them
            _require_all(upload, _find_lacking(cut, self._list_stored(upload)))
        list(
            map_in_order(
                lambda file: self._assemble_file(upload, file, whole[file]), whole, PARALLEL_REQUESTS
            )
        )

    def _assemble_file(self, upload: Upload, file: UploadFile, arrived: Mapping[int, StoredPart]) -> None:
        assert file.multipart_id is not None  # noqa: S101 - without an id, no parts are found
        assemble_parts(self._bucket, upload.build_key(file), file.multipart_id, arrived)

    def _find_parts(self, upload: Upload, file: UploadFile) -> dict[int, StoredPart]:
        if file.multipart_id is None:
            return {}
        return list_parts(self._bucket, upload.build_key(file), file.multipart_id)

    def _list_stored(self, upload: Upload) -> dict[str, ListedObject]:
        """Return the objects of the upload, except its record, keyed by their paths within the upload."""
        record = build_upload_record_key(upload.upload_id)
        return {
            item.location.key.removeprefix(upload.prefix): item
            for item in self._bucket.list_objects(upload.prefix)
            if item.location.key != record
        }

    def _read(self, upload_id: str) -> tuple[Upload, str]:
        """Return the upload and the ETag of its record. Raises UploadUnknown."""
        if not _ID.fullmatch(upload_id):
            raise _describe_unknown(upload_id)
        try:
            # One request returns the record with its ETag; between two requests, either could change.
            record, etag = self._bucket.read_with_etag(build_upload_record_key(upload_id), _LARGEST_RECORD)
            return Upload.model_validate_json(record), etag
        except (ObjectNotFound, ObjectTooLarge, ValidationError):
            raise _describe_unknown(upload_id) from None

    def _write(self, upload: Upload, condition: Condition) -> None:
        """Store the record. Raises UploadUnknown if another request has written or removed it."""
        key, content = build_upload_record_key(upload.upload_id), upload.model_dump_json().encode()
        try:
            self._bucket.put(key, content, content_type="application/json", condition=condition)
        except ConditionFailed:
            # If S3's response was lost, boto3's retry fails because of the record that the first try wrote.
            if self._read(upload.upload_id)[0] != upload:
                raise _describe_change(upload.upload_id) from None


def find_upload_id(bucket: Bucket, source: str | None) -> str | None:
    """Return the id of the upload in this bucket to which a URI belongs; None if there is no such upload."""
    key = bucket.find_key(source or "")
    upload_id = find_upload(f"{key}/") if key else None
    return upload_id if upload_id and _ID.fullmatch(upload_id) else None


def _describe_unknown(upload_id: str) -> UploadUnknown:
    return UploadUnknown(
        f"upload_id={show_value(upload_id)} is unknown, or the upload has been removed: begin a new upload"
    )


def _describe_change(upload_id: str) -> UploadUnknown:
    return UploadUnknown(
        f"Upload {upload_id} was just removed or completed by another request: retrieve it again"
    )


def _find_lacking(files: Iterable[UploadFile], stored: Mapping[str, ListedObject]) -> list[UploadFile]:
    """Return the files that are not in S3 or whose size differs from the announced size."""
    return [file for file in files if file.path not in stored or stored[file.path].size != file.size]


def _require_all(upload: Upload, lacking: list[UploadFile]) -> None:
    if not lacking:
        return
    named = list_some([show_value(file.path) for file in lacking], _EXAMPLES)
    raise UploadIncomplete(
        f"Upload {upload.upload_id} is not complete: {len(lacking):,} of {len(upload.files):,} files have "
        f"not arrived as announced ({named}); send the parts that have not arrived"
    )


def _is_whole(file: UploadFile, arrived: Mapping[int, StoredPart]) -> bool:
    """Return whether exactly the announced parts have arrived, each with its announced size."""
    sizes = {number: part.size for number, part in arrived.items()}
    return sizes == {number: file.measure_part(number) for number in range(1, file.parts + 1)}
