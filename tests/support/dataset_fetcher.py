"""A program that materializes a dataset from S3, for tests that kill its process or run several at once.

Its argument is JSON: reference, cache, client (arguments of boto3.client), hang and hang_after. If hang is
true, each read after the first hang_after reads hangs in the middle. The program prints the number of reads.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest

from include.datasets.caching.fetch import materialize
from include.datasets.reference import DatasetReference
from include.datasets.s3 import S3ObjectReader
from include.datasets.storage import StoredObject

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class CountingReader(S3ObjectReader):
    """An S3 reader that counts its reads, and can hang after the first bytes of a read."""

    def __init__(self, client: S3Client, *, hang: bool = False, hang_after: int = 0) -> None:
        super().__init__(client)
        self._hang, self._hang_after = hang, hang_after
        self._keys: list[str] = []
        self._numbers = count(1)  # numbers each read, even if several threads read concurrently

    @property
    def reads(self) -> int:
        return len(self._keys)

    def read(self, stored: StoredObject, start: int, stop: int) -> Iterator[bytes]:
        self._keys.append(stored.key)
        hang = next(self._numbers) > self._hang_after and self._hang
        for block in super().read(stored, start, stop):
            yield block[: len(block) // 2]
            while hang:
                time.sleep(1)
            yield block[len(block) // 2 :]


@pytest.fixture
def reader(s3_client: S3Client) -> CountingReader:
    """Return a reader for the session's S3 server that counts its requests."""
    return CountingReader(s3_client)


def main() -> None:
    job = json.loads(sys.argv[1])
    reader = CountingReader(
        boto3.client("s3", **job["client"]), hang=job["hang"], hang_after=job["hang_after"]
    )
    with materialize(DatasetReference.model_validate(job["reference"]), Path(job["cache"]), reader):
        sys.stdout.write(str(reader.reads))


if __name__ == "__main__":
    main()
