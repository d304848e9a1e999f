"""Lists the objects under a prefix with several concurrent requests.

S3 returns 1,000 keys per request, and each request needs the last key of the previous one. Listing two
million objects in this way takes minutes, during which nothing else can begin. So folders, which do not
depend on each other, are listed in parallel. If more requests may run, a large folder is divided in two at a
guessed key, and both parts are listed in parallel. The objects of each part are kept in a file until they are
yielded, so that listing millions of objects takes little memory.
"""

from __future__ import annotations

import heapq
import json
import threading
from bisect import bisect_left
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from include.datasets.errors import DatasetError
from include.datasets.storage import StoredObject
from include.limits import FOLDER_DEPTH, PREFIX_OBJECTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from include.datasets.storage import ObjectReader

_PAGE = 1000
"""Number of objects that S3 returns per request. If a dataset has more, its folders are listed separately."""

_REQUESTS = 8
"""Maximum number of concurrent requests."""

_NAME_LENGTH = 64
"""How many characters of a name are considered when a key is guessed."""

_PAGES_AHEAD = 8
"""How many pages ahead the guessed key is, if the following names are as close together as those so far."""


def list_objects(reader: ObjectReader, bucket: str, prefix: str) -> Iterator[StoredObject]:
    """Yield the objects whose keys start with `prefix`, in the order of their keys.

    Raises the errors of `reader`, and DatasetError if there are more than PREFIX_OBJECTS objects, or if
    folders are nested too deeply.
    """
    first = list(islice(reader.list(bucket, prefix), _PAGE + 1))
    if len(first) <= _PAGE:
        yield from sorted(first, key=_get_key)
        return
    with TemporaryDirectory() as work, ThreadPoolExecutor(_REQUESTS) as pool:
        folders = _Folders(reader, bucket, prefix, Path(work), pool)
        folders.start_folder(prefix)
        try:
            yield from folders.walk()
        finally:
            folders.abandoned.set()
            pool.shutdown(cancel_futures=True)


@dataclass
class _Part:
    """The objects and folders directly in a folder, between two keys."""

    prefix: str
    """The prefix of the folder, ending in `/`, or the prefix of the whole listing."""
    objects: Path
    """A file with one line of JSON for each object."""
    after: str = ""
    """The objects' keys sort after this key."""
    last: str | None = None
    """The largest possible key of an object in this part; None if no part follows."""
    folders: set[str] = field(default_factory=set)
    """The prefixes of folders in this part. With the sort order of some servers, a folder is in two parts."""
    following: _Part | None = None
    """The part that begins after `last`; None if no part follows."""
    done: Future[None] = field(default_factory=Future)
    """Done once all objects of this part are in the file."""

    def has(self, key: str) -> bool:
        """Return whether an object with this key belongs to this part."""
        return key > self.after and not self.is_behind(key)

    def is_behind(self, key: str) -> bool:
        """Return whether an object with this key belongs to a later part."""
        return self.last is not None and key > self.last


@dataclass
class _Folders:
    """All folders under a prefix, both those already listed and those still to be listed."""

    reader: ObjectReader
    """Lists the objects; several threads use it at once."""
    bucket: str
    """The bucket that contains the objects."""
    prefix: str
    """The prefix of the whole listing."""
    work: Path
    """Contains a file for each part."""
    pool: ThreadPoolExecutor
    """Runs one task for each part; it is shut down when the listing ends."""
    abandoned: threading.Event = field(default_factory=threading.Event)
    """Set when the caller has stopped iterating, so that the remaining folders need not be listed."""
    _first_parts: dict[str, _Part] = field(default_factory=dict)
    """The first part of each folder."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    """Held while a part is started or divided, and while objects are counted."""
    _listing: int = 0
    """Number of parts that are being listed or are waiting to be listed."""
    _number: count[int] = field(default_factory=count)
    """Numbers the files in `work`."""
    _objects: int = 0
    """Number of objects listed so far."""

    def start_folder(self, prefix: str) -> None:
        """Start listing a folder and all folders in it, unless this has already started."""
        with self._lock:
            if prefix not in self._first_parts:
                self._first_parts[prefix] = self._start(_Part(prefix, self._name_file()))

    def walk(self) -> Iterator[StoredObject]:
        """Yield all objects in the order of their keys."""
        open_folders = [self._read(self.prefix)]
        while open_folders:
            found = next(open_folders[-1], None)
            if found is None:
                open_folders.pop()
            elif isinstance(found, str):
                open_folders.append(self._read(found))
            else:
                yield found

    def _start(self, part: _Part) -> _Part:
        self._listing += 1
        part.done = self.pool.submit(self._list, part)
        return part

    def _list(self, part: _Part) -> None:
        try:
            self._require_flat(part.prefix)
            with part.objects.open("w", encoding="ascii") as file:
                for page in self.reader.list_level(self.bucket, part.prefix, part.after):
                    for folder in (found for found in page if isinstance(found, str)):
                        part.folders.add(folder)
                        self.start_folder(folder)
                    objects = [found for found in page if not isinstance(found, str)]
                    own = [found for found in objects if part.has(found.key)]
                    self._count(len(own))
                    file.writelines(json.dumps([each.key, each.size, each.etag]) + "\n" for each in own)
                    if self.abandoned.is_set() or (objects and part.is_behind(objects[-1].key)):
                        return
                    self._divide(part, [found.key for found in own])
        finally:
            with self._lock:
                self._listing -= 1

    def _divide(self, part: _Part, keys: list[str]) -> None:
        """After a full page with these keys, let an idle thread list the part after a guessed key.

        The guessed key is a few pages ahead. If no key follows it, that thread finishes immediately, and this
        part is divided again after its next page.
        """
        if len(keys) < _PAGE or keys != sorted(keys):  # not every server sorts keys
            return
        start = len(part.prefix)
        last = None if part.last is None else part.last[start:]
        with self._lock:
            if self._listing >= _REQUESTS:
                return
            division = find_division([key[start:] for key in keys], last)
            if division is not None:
                key = part.prefix + division
                other = _Part(part.prefix, self._name_file(), key, part.last, following=part.following)
                part.last, part.following = key, self._start(other)

    def _count(self, objects: int) -> None:
        with self._lock:
            self._objects += objects
            if self._objects > PREFIX_OBJECTS:
                raise DatasetError(
                    f"s3://{self.bucket}/{self.prefix} exceeds the limit of {PREFIX_OBJECTS:,} objects; give "
                    "a prefix with fewer"
                )

    def _require_flat(self, prefix: str) -> None:
        if prefix.removeprefix(self.prefix).count("/") > FOLDER_DEPTH:
            raise DatasetError(
                f"s3://{self.bucket}/{prefix} is nested more than {FOLDER_DEPTH} folders deep; move its "
                "objects up"
            )

    def _name_file(self) -> Path:
        return self.work / str(next(self._number))

    def _read(self, prefix: str) -> Iterator[StoredObject | str]:
        """Yield the objects and folders in a folder, in the order of their keys."""
        parts = []
        part: _Part | None = self._first_parts[prefix]
        while part is not None:
            part.done.result()  # until then, a part may be divided, which changes `following`
            parts.append(part)
            part = part.following
        folders = sorted({folder for part in parts for folder in part.folders})
        objects: Iterator[StoredObject | str] = self._read_objects(parts)
        # The servers' order is not kept, because some sort folders by their names without the slash.
        yield from heapq.merge(objects, folders, key=_get_key) if folders else objects

    def _read_objects(self, parts: list[_Part]) -> Iterator[StoredObject]:
        for part in parts:
            with part.objects.open(encoding="ascii") as file:
                for line in file:
                    yield StoredObject(self.bucket, *json.loads(line))
            part.objects.unlink()


def _get_key(found: StoredObject | str) -> str:
    return found if isinstance(found, str) else found.key


def find_division(names: Sequence[str], last: str | None) -> str | None:
    """Guess a name between the last of `names` and `last`; return None if the guess is not there.

    `names` are the names on one page, in order; `last` is None if there is no upper bound. The guess lies
    _PAGES_AHEAD times the page's range after the last of `names`, but at most halfway to the upper bound. It
    consists of characters that occur in `names`, because the following names probably consist of them, too.
    """
    alphabet = sorted(set("".join(names)))
    if not alphabet:
        return None
    base = len(alphabet) + 1  # 0 is the end of a name
    first, low = _to_number(names[0], alphabet), _to_number(names[-1], alphabet)
    high = base**_NAME_LENGTH - 1 if last is None else _to_number(last, alphabet)
    found = _to_name(min(low + max(low - first, 1) * _PAGES_AHEAD, (low + high) // 2), alphabet)
    return found if names[-1] < found and (last is None or found < last) else None


def _to_number(name: str, alphabet: Sequence[str]) -> int:
    """Return the name as a number whose digits are its characters, so that numbers sort like names."""
    base, number = len(alphabet) + 1, 0
    for character in name[:_NAME_LENGTH]:
        number = number * base + min(bisect_left(alphabet, character) + 1, len(alphabet))
    return int(number * base ** max(0, _NAME_LENGTH - len(name)))


def _to_name(number: int, alphabet: Sequence[str]) -> str:
    """Return the name that a number represents.

    Zeros at its end are omitted; any other 0 becomes the first character of the alphabet.
    """
    base, digits = len(alphabet) + 1, []
    while number:
        number, digit = divmod(number, base)
        digits.append(digit)
    while digits and not digits[0]:
        digits.pop(0)
    return "".join(alphabet[max(digit - 1, 0)] for digit in reversed(digits))
