"""The samples of all datasets in one bucket, at `datasets/samples/{fingerprint}-{task}/`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field, TypeAdapter

from include.datasets.drawing.draw import INDEX
from include.datasets.rules import Split
from include.limits import MIB
from include.s3.layout import build_samples_prefix

if TYPE_CHECKING:
    from pathlib import Path

    from include.s3.bucket import Bucket, ObjectContent
    from include.ultralytics_tasks import Task

_LARGEST = MIB
"""Maximum size of the index and of each picture, which is at most 640 pixels wide and high."""

_NAME = r"^[0-9]{1,2}\.jpg$"


class DrawnSample(BaseModel):
    """An image of a dataset that was drawn with its labels."""

    name: str = Field(pattern=_NAME)
    """Name of the picture, such as `0.jpg`."""
    split: Split
    """The split that contains the image."""
    image: str
    """Path of the image within the split."""


_DRAWN = TypeAdapter(list[DrawnSample])


class SampleStore:
    """The samples in one bucket, by fingerprint. Drawing the same content again replaces its samples."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def store(self, fingerprint: str, task: Task, folder: Path) -> None:
        """Store the pictures that were drawn into the folder, and then their index. Raises StoreErrors."""
        index = folder / INDEX
        if not index.exists():
            return
        prefix = build_samples_prefix(fingerprint, task)
        for sample in _DRAWN.validate_json(index.read_bytes()):
            content = (folder / sample.name).read_bytes()
            self._bucket.put(f"{prefix}{sample.name}", content, content_type="image/jpeg")
        self._bucket.put(f"{prefix}{INDEX}", index.read_bytes(), content_type="application/json")

    def list(self, fingerprint: str, task: Task) -> list[DrawnSample]:
        """Return the stored samples; an empty list if none were drawn or their index is invalid.

        Raises StoreErrors.
        """
        key = f"{build_samples_prefix(fingerprint, task)}{INDEX}"
        return self._bucket.read(key, _LARGEST, _DRAWN.validate_json) or []

    def fetch(self, fingerprint: str, task: Task, name: str, known: str = "") -> ObjectContent | None:
        """Return the picture with this name; None if it is missing or too large. Raises StoreErrors.

        `known` holds the ETags of pictures that the client already has; such a picture is not read again.
        """
        if not re.fullmatch(_NAME, name):
            return None
        key = f"{build_samples_prefix(fingerprint, task)}{name}"
        head = self._bucket.head(key)
        if head is None or head["ContentLength"] > _LARGEST:
            return None
        return self._bucket.read_unless_known(key, head["ETag"], known)
