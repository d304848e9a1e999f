"""The pictures of all jobs in one bucket, at `pictures/{job_id}/`: beside the checkpoints, not among them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from include.checkpoints.metadata import run_id_in
from include.pictures.choosing import LARGEST_PICTURE, media_type, place_of
from include.s3.errors import translate_s3_errors
from include.s3.layout import pictures_prefix
from include.s3.location import JOB_ID, S3Location
from include.s3.reading import head_object

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mypy_boto3_s3 import S3Client


@dataclass(frozen=True)
class StoredPicture:
    """A picture in S3, with its size in bytes."""

    name: str
    size: int


@dataclass(frozen=True)
class FetchedPicture:
    """A picture's bytes, None where they are known already, and the tag by which a browser tells."""

    content: bytes | None
    etag: str


class PictureStore:
    """Pictures belong to one training of a job, as checkpoints do: to that which origin_run_id began."""

    def __init__(self, client: S3Client, bucket: str) -> None:
        self._client, self._bucket = client, bucket

    def replace(self, job_id: str, origin_run_id: str, pictures: Iterable[tuple[str, bytes]]) -> int:
        """Store these pictures of a training, and remove those of others; returns how many.

        What the same training has stored before stays: an attempt that only validates draws less. Raises
        StoreErrors.
        """
        stored = set()
        for name, content in pictures:
            location = self._location(job_id, name)
            with translate_s3_errors(self._client, location):
                self._client.put_object(
                    Bucket=location.bucket,
                    Key=location.key,
                    Body=content,
                    ContentType=media_type(name),
                    Metadata={"job-id": job_id, "run-id": quote(origin_run_id)},
                )
            stored.add(location.key)
        for key, _ in self._listed(job_id):
            if key not in stored and not self._is_of(origin_run_id, S3Location(self._bucket, key)):
                with translate_s3_errors(self._client, S3Location(self._bucket, key)):
                    self._client.delete_object(Bucket=self._bucket, Key=key)
        return len(stored)

    def pictures(self, job_id: str, origin_run_id: str | None) -> list[StoredPicture]:
        """List the pictures of that training, the most telling first. Raises StoreErrors.

        Those of another training of the same name are none.
        """
        prefix = pictures_prefix(job_id)
        found = {key.removeprefix(prefix): size for key, size in self._listed(job_id)}
        pictures = sorted((place, name) for name in found if (place := place_of(name)))
        if not pictures or origin_run_id is None:
            return []
        if not self._is_of(origin_run_id, self._location(job_id, pictures[0][1])):
            return []
        return [StoredPicture(name, found[name]) for _, name in pictures]

    def fetch(
        self, job_id: str, origin_run_id: str | None, name: str, known: str = ""
    ) -> FetchedPicture | None:
        """One picture of that training; None if it has none of this name. Raises StoreErrors.

        known holds the tags of what is there already: that is not read again.
        """
        if place_of(name) is None or origin_run_id is None or not re.fullmatch(JOB_ID, job_id):
            return None
        location = self._location(job_id, name)
        head = head_object(self._client, location)
        if head is None or run_id_in(head["Metadata"]) != origin_run_id:
            return None
        if head["ContentLength"] > LARGEST_PICTURE:
            return None
        if head["ETag"] in known:
            return FetchedPicture(None, head["ETag"])
        with translate_s3_errors(self._client, location):
            answer = self._client.get_object(Bucket=location.bucket, Key=location.key, IfMatch=head["ETag"])
            return FetchedPicture(answer["Body"].read(), answer["ETag"])

    def _is_of(self, origin_run_id: str, location: S3Location) -> bool:
        head = head_object(self._client, location)
        return head is not None and run_id_in(head["Metadata"]) == origin_run_id

    def _listed(self, job_id: str) -> list[tuple[str, int]]:
        if not re.fullmatch(JOB_ID, job_id):
            return []
        prefix = pictures_prefix(job_id)
        with translate_s3_errors(self._client, S3Location(self._bucket, prefix)):
            # There are few: S3 names a thousand at once
            answer = self._client.list_objects_v2(Bucket=self._bucket, Prefix=prefix)
        return [(item["Key"], item["Size"]) for item in answer.get("Contents", ())]

    def _location(self, job_id: str, name: str) -> S3Location:
        return S3Location(self._bucket, f"{pictures_prefix(job_id)}{name}")
