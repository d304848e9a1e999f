"""Storing the pictures of all jobs in one bucket, separate from checkpoints."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from include.checkpoints.stored import parse_run_id
from include.pictures.choosing import LARGEST_PICTURE, find_media_type, rank_picture
from include.s3.client import PARALLEL_REQUESTS
from include.s3.layout import build_pictures_prefix
from include.s3.location import JOB_ID

if TYPE_CHECKING:
    from collections.abc import Iterable

    from include.s3.bucket import Bucket, ObjectContent


@dataclass(frozen=True)
class StoredPicture:
    """A picture in S3."""

    name: str
    """File name, as Ultralytics chose it."""
    size: int
    """In bytes."""


class PictureStore:
    """The pictures in one bucket.

    A picture belongs to a training run, which is identified by the Dag run that started it (`origin_run_id`).
    """

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def add(self, job_id: str, origin_run_id: str, pictures: Iterable[tuple[str, bytes]]) -> int:
        """Store these pictures of a training run, and return their number. Raises StoreErrors.

        Earlier pictures with other names are kept, because an attempt that only validates draws fewer
        pictures.
        """
        metadata = {"job-id": job_id, "run-id": quote(origin_run_id)}
        number = 0
        for number, (name, content) in enumerate(pictures, start=1):  # noqa: B007
            key = _build_key(job_id, name)
            self._bucket.put(key, content, content_type=find_media_type(name), metadata=metadata)
        return number

    def delete_others(self, job_id: str, origin_run_id: str) -> None:
        """Delete the pictures of other training runs with the same job_id. Raises StoreErrors."""
        for key in self._list_sizes(job_id):
            if not self._is_of(origin_run_id, key):
                self._bucket.delete(key)

    def list_pictures(self, job_id: str, origin_run_id: str | None) -> list[StoredPicture]:
        """List the pictures of that training run, most informative first. Raises StoreErrors.

        Pictures that another training run with the same job_id has left are not included.
        """
        if origin_run_id is None:
            return []
        prefix = build_pictures_prefix(job_id)
        found = {key.removeprefix(prefix): size for key, size in self._list_sizes(job_id).items()}
        ranked = sorted((rank, name) for name in found if (rank := rank_picture(name)) is not None)
        names = [name for _, name in ranked]
        with ThreadPoolExecutor(PARALLEL_REQUESTS) as pool:
            own = pool.map(lambda name: self._is_of(origin_run_id, _build_key(job_id, name)), names)
            return [
                StoredPicture(name, found[name]) for name, is_own in zip(names, own, strict=True) if is_own
            ]

    def fetch(
        self, job_id: str, origin_run_id: str | None, name: str, known: str = ""
    ) -> ObjectContent | None:
        """Return this picture of the training run; None if the run has no such picture. Raises StoreErrors.

        `known` holds the ETags of the pictures that the client has cached. If this picture is among them, it
        is returned without its bytes.
        """
        if rank_picture(name) is None or origin_run_id is None or not re.fullmatch(JOB_ID, job_id):
            return None
        key = _build_key(job_id, name)
        head = self._bucket.head(key)
        if head is None or parse_run_id(head["Metadata"]) != origin_run_id:
            return None
        if head["ContentLength"] > LARGEST_PICTURE:
            return None
        return self._bucket.read_unless_known(key, head["ETag"], known)

    def _is_of(self, origin_run_id: str, key: str) -> bool:
        head = self._bucket.head(key)
        return head is not None and parse_run_id(head["Metadata"]) == origin_run_id

    def _list_sizes(self, job_id: str) -> dict[str, int]:
        """Return the size of each stored picture, by its key."""
        if not re.fullmatch(JOB_ID, job_id):
            return {}
        return {
            item.location.key: item.size for item in self._bucket.list_objects(build_pictures_prefix(job_id))
        }


def _build_key(job_id: str, name: str) -> str:
    return f"{build_pictures_prefix(job_id)}{name}"
