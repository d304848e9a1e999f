"""Kills processes at random moments while they fetch, use and evict datasets of one cache.

The arguments are a folder, a seed and a number of seconds. The program fails if a visible dataset is
incomplete, or if a dataset is lost while it is in use.
"""

from __future__ import annotations

import hashlib
import logging
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from include.datasets.caching.cache import DatasetCache
from include.datasets.caching.eviction import make_room
from include.datasets.caching.fetch import locate
from include.datasets.layouts.boundary import DatasetRoots
from include.datasets.sources import S3Tree
from include.datasets.storage import Page, StoredObject

_SETS = 4
_LIMIT = 600_000
"""The cache limit in bytes; two of the datasets fit into the cache."""


@dataclass(frozen=True)
class Objects:
    """Objects in memory, by prefix and name; real S3 is not needed here."""

    by_prefix: dict[str, dict[str, bytes]]

    def list(self, bucket: str, prefix: str) -> Iterator[StoredObject]:
        """List the objects below one of the prefixes."""
        for name, content in sorted(self.by_prefix[prefix].items()):
            etag = hashlib.md5(content).hexdigest()  # noqa: S324 - as S3 does
            yield StoredObject(bucket, prefix + name, len(content), etag)

    def list_level(self, bucket: str, prefix: str, after: str = "") -> Iterator[Page]:
        """Not needed for a whole prefix."""
        raise NotImplementedError

    def stat(self, bucket: str, key: str) -> StoredObject:
        """Not needed for a whole prefix."""
        raise NotImplementedError

    def read(self, stored: StoredObject, start: int, stop: int) -> Iterator[bytes]:
        """Read slowly, in two pieces."""
        prefix, _, name = stored.key.partition("/")
        content = self.by_prefix[f"{prefix}/"][name][start:stop]
        yield content[: len(content) // 2]
        time.sleep(random.random() * 0.002)
        yield content[len(content) // 2 :]


class Trial:
    """A cache, and the datasets that processes fetch into it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder, self._rng = folder, random.Random(seed)
        shared = {
            f"images/{number}.jpg": self._rng.randbytes(self._rng.randrange(9000)) for number in range(60)
        }
        self._sets = {
            f"set{number}/": {name: shared[name] for name in shared if self._rng.random() < 0.8}
            | {f"own{number}.txt": b"%d" % number}
            for number in range(_SETS)
        }
        self._killed = self._ended = 0

    def run(self, seconds: float) -> None:
        """Start processes two at a time for `seconds`, and kill many of them.

        Even on a slow machine, continue until at least one was killed and one ended by itself.
        """
        until = time.monotonic() + seconds
        while time.monotonic() < until or not (self._killed and self._ended):
            processes = [self._start() for _ in range(2)]
            for process in processes:
                if self._rng.random() < 0.6:
                    time.sleep(self._rng.random() * 0.15)
                    os.kill(process, signal.SIGKILL)
            for process in processes:
                _, status = os.waitpid(process, 0)
                assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
                self._killed += os.WIFSIGNALED(status)
                self._ended += os.WIFEXITED(status)
            self._require_whole()

    def _start(self) -> int:
        number, evicts = self._rng.randrange(_SETS), self._rng.random() < 0.5
        process = os.fork()
        if process == 0:
            try:
                self._use(f"set{number}/", evicts)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        return process

    def _use(self, prefix: str, evicts: bool) -> None:
        cache = DatasetCache.open(self._folder, _LIMIT)
        origin, reader = S3Tree("bucket", prefix), Objects(self._sets)
        with locate(origin, f"s3://bucket/{prefix}", cache, reader, DatasetRoots()) as (place, _):
            for _ in range(2):
                for name, content in self._sets[prefix].items():
                    assert (place.path / name).read_bytes() == content
                if evicts:
                    make_room(cache)

    def _require_whole(self) -> None:
        for content in self._folder.glob("*/content"):
            found = {
                str(path.relative_to(content)): path.read_bytes()
                for path in content.rglob("*")
                if path.is_file()
            }
            assert found in self._sets.values(), content


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    Trial(Path(sys.argv[1]), int(sys.argv[2])).run(float(sys.argv[3]))
