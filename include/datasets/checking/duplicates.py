"""Finds images with the same content, keeping only 16 bytes per image in memory."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING

from include.datasets.checking.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from include.datasets.layouts.samples import Layout, Sample
    from include.datasets.rules import Split

_BYTES = 16
"""Bytes kept of each SHA-256: the probability that any two of a million images share them is 1e-27."""


class Digests:
    """The digests of all images of a dataset."""

    def __init__(self) -> None:
        self._digests = bytearray()

    def add(self, sha256: str) -> None:
        """Add an image by the hexadecimal SHA-256 of its file."""
        self._digests += bytes.fromhex(sha256[: 2 * _BYTES])

    def find_duplicates(self) -> Iterator[list[int]]:
        """Yield groups of images with the same content, as ascending numbers.

        Images are numbered from 0, in the order in which they were added.
        """
        import numpy as np

        table = np.frombuffer(self._digests, "<u8").reshape(-1, 2)
        order = np.lexsort((table[:, 1], table[:, 0]))  # stable: the numbers within a group ascend
        differs = (table[order[1:]] != table[order[:-1]]).any(axis=1)
        bounds = np.concatenate(([0], differs.nonzero()[0] + 1, [len(order)]))
        for first in (np.diff(bounds) > 1).nonzero()[0].tolist():
            yield order[bounds[first] : bounds[first + 1]].tolist()


def find_duplicate_images(layout: Layout, digests: Digests) -> Iterator[Finding]:
    """Yield a warning for each image that is identical to an earlier image of its split or to one in train.

    `digests` are the digests of all images, in the order of the layout. An image that is listed several times
    is not a duplicate of itself.
    """
    splits = list(layout.splits)
    ends = list(accumulate(len(layout.splits[split]) for split in splits))

    def find(number: int) -> tuple[Split, Sample]:
        index = bisect_right(ends, number)
        start = ends[index - 1] if index else 0
        return splits[index], layout.splits[splits[index]][number - start]

    for numbers in digests.find_duplicates():
        yield from _compare(layout, [find(number) for number in numbers])


def _compare(layout: Layout, same: Sequence[tuple[Split, Sample]]) -> Iterator[Finding]:
    first: dict[Split, Sample] = {}
    seen = set()
    for split, sample in same:
        if (split, sample.image) in seen:
            continue
        seen.add((split, sample.image))
        file = layout.make_relative(sample.image)
        if split != "train" and "train" in first:
            other = layout.make_relative(first["train"].image)
            message = "it is also in train" if other == file else f"{other} of train has the same content"
            yield Finding(file, None, message, "leaked-images")
        elif split in first:
            other = layout.make_relative(first[split].image)
            yield Finding(file, None, f"{other} has the same content", "duplicate-images")
        first.setdefault(split, sample)
