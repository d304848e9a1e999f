"""Comparing an object's metadata and, if requested, its bytes with the row that names the object."""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING

from include.audit.findings import FindingKind
from include.checkpoints.stored import find_checkpoint
from include.s3.errors import BucketMissing, CorruptObject, ObjectNotFound, StoreError, StoreRefusal
from include.s3.location import S3Location
from include.s3.reading import head_object, read_object

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from include.audit.findings import AuditFinding
    from include.audit.recorded import RecordedObject

log = logging.getLogger(__name__)

_READS = 2
"""Number of attempts to read an object. If the connection breaks at each of them, the object's bytes may be
damaged on the server."""


def examine_object(client: S3Client, recorded: RecordedObject, *, reread: bool) -> AuditFinding | None:
    """Return the finding about the recorded object; None if there is no problem.

    Without `reread`, only its metadata and size are compared with the record. This reveals a replaced object
    but not damaged bytes. Raises StoreErrors if S3 is unavailable.
    """
    try:
        location = S3Location.parse(recorded.path)
        stored = find_checkpoint(client, location)
    except (ValueError, BucketMissing) as error:
        return recorded.make_finding(FindingKind.MISSING, f"{recorded} names {recorded.path}: {error}")
    if stored is None:
        return recorded.make_finding(
            FindingKind.MISSING, f"{recorded} names {recorded.path}, but there is no such object"
        )
    problem = None
    if recorded.size is not None and stored.size != recorded.size:
        problem = f"has {stored.size} bytes instead of {recorded.size}"
    elif stored.sha256 is None:
        problem = "was replaced by an object that this project did not write: it carries no checksum"
    elif stored.sha256 != recorded.sha256:
        problem = f"is a different file: its SHA-256 is {stored.sha256} instead of {recorded.sha256}"
    elif reread:
        problem = _find_problem_with_bytes(client, location, recorded)
    if problem is None:
        return None
    return recorded.make_finding(FindingKind.DAMAGED, f"{recorded.path} of {recorded} {problem}")


def _find_problem_with_bytes(client: S3Client, location: S3Location, recorded: RecordedObject) -> str | None:
    problem = ""
    for _ in range(_READS):
        try:
            found = read_object(client, location)
        except ObjectNotFound:
            return "was removed while it was being read"
        except CorruptObject as error:
            return f"is damaged: {error}"
        except StoreRefusal:
            raise
        except StoreError as error:
            problem = f"cannot be read: {error}"
            log.warning("%s %s", location.uri, problem)
            head_object(client, location)  # raises if the whole server has a problem, not only this object
            continue
        if found.sha256 == recorded.sha256:
            return None
        return f"is damaged: its {found.size} bytes have SHA-256 {found.sha256} instead of {recorded.sha256}"
    return problem


class RandomSample:
    """A uniform random sample of the objects that are offered, in constant memory, however many they are."""

    def __init__(self, size: int, seed: str) -> None:
        self.objects: list[RecordedObject] = []
        self._size, self._offered = size, 0
        self._dice = random.Random(seed)  # noqa: S311 - no secret depends on it

    def offer(self, recorded: RecordedObject) -> None:
        """Add the object with the right probability; if the sample is full, it replaces a random one."""
        self._offered += 1
        if len(self.objects) < self._size:
            self.objects.append(recorded)
        elif (place := self._dice.randrange(self._offered)) < self._size:
            self.objects[place] = recorded
