"""Finds a dataset and checks it, so that problems are found before a GPU is claimed."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from include.datasets import digits
from include.datasets.caching.cache import DatasetCache
from include.datasets.caching.fetch import locate
from include.datasets.checking.findings import FoundKind
from include.datasets.confinement import run_confined
from include.datasets.conversion.problems import warn_of_notes
from include.datasets.drawing.draw import draw_samples
from include.datasets.errors import DatasetError
from include.datasets.examination import examine
from include.datasets.fingerprint import require_expected
from include.datasets.layouts.boundary import DatasetRoots
from include.datasets.reference import DatasetReference
from include.datasets.rules import CheckRules
from include.datasets.sources import Digits, parse_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from include.datasets.caching.listing import S3Listings
    from include.datasets.conversion.convert import Converter
    from include.datasets.layouts.samples import DatasetLocation
    from include.datasets.sources import Source
    from include.datasets.storage import ObjectReader
    from include.ultralytics_tasks import Task


log = logging.getLogger(__name__)


_NO_ROOTS = DatasetRoots()
_USUAL_RULES = CheckRules()
_LONG = {"classes", "class_table"}
"""The fields of a reference that are too long for a log line."""


@dataclass(frozen=True)
class CheckedDataset:
    """A dataset that can be trained on."""

    reference: DatasetReference
    """What a training task needs in order to fetch exactly the checked data."""
    warnings: tuple[FoundKind, ...] = ()
    """Probable mistakes in the data that do not prevent training, by kind."""


def inspect_dataset(
    source: str,
    task: Task,
    cache: Path,
    s3: ObjectReader | None,
    roots: DatasetRoots = _NO_ROOTS,
    listings: S3Listings | None = None,
    rules: CheckRules = _USUAL_RULES,
    manifest: Path | None = None,
    samples: Path | None = None,
    cache_limit: int | None = None,
    expected: str | None = None,
    converter: Converter | None = None,
) -> CheckedDataset:
    """Find the data of `source`, fetch them into `cache` if they are in S3, and check images and labels.

    Only the splits train and `rules.split` are checked. The bundled digits are not checked at all. `listings`
    record the current objects under an S3 prefix, for `materialize` on other machines. `rules` are the
    arguments of the training run that determine which data are valid. `manifest` is the path of the manifest
    to write (checking/validate.py), and `samples` the folder for drawn samples (drawing/); neither is written
    for the digits. `cache_limit` is in bytes, see eviction.py. `expected` is the fingerprint of a registered
    version: the content must have it, and objects added to the prefix since then are ignored. If `converter`
    is given, COCO annotations and .ndjson exports are converted to the format of Ultralytics, and the
    reference points to the converted copy.

    Raises DatasetError, which lists problems by file and line, or says what is missing and what to do;
    DatasetChanged for a fingerprint other than `expected`; StoreErrors; and UntrustedFolder for a cache that
    another account could have changed. Everything that parses the data runs in a confined process, see
    confinement.py. A retry may succeed after OSError, ConfinedProcessEnded, EvictionHangs, ImagesUnavailable
    and DatasetChanging: without `expected`, the data changed while they were listed and fetched.
    """
    origin = parse_source(source, task)
    if isinstance(origin, Digits):
        require_expected(digits.FINGERPRINT, expected, source)
        return CheckedDataset(digits.build_reference(rules.split))
    opened = DatasetCache.open(cache, cache_limit)
    find = partial(locate, source=source, cache=opened, s3=s3, roots=roots, listings=listings)
    with _convert(find, origin, task, opened, expected, converter) as (location, known, copy, notes):
        known_files = opened.known_files if location.is_fetched else None
        found = _examine(location, task, known, rules, manifest, known_files)
        if samples:
            _draw(location, task, rules, samples)
    warnings = (
        *(FoundKind.model_validate(kind) for kind in found["warnings"]),
        *warn_of_notes(notes, source),
    )
    reference = DatasetReference(
        source=copy or source,
        origin=source if copy else None,
        task=task,
        split=rules.split,
        warnings=sum(kind.count for kind in warnings),
        **found["reference"],
    )
    require_expected(reference.fingerprint, expected, source)
    _log_result(source, reference, warnings)
    return CheckedDataset(reference, warnings)


@contextmanager
def _convert(
    find: Callable[..., AbstractContextManager[tuple[DatasetLocation, str | None]]],
    origin: Source,
    task: Task,
    cache: DatasetCache,
    expected: str | None,
    converter: Converter | None,
) -> Iterator[tuple[DatasetLocation, str | None, str | None, Mapping[str, int]]]:
    """Find the data, and convert them if necessary.

    Yields the location and the fingerprint of the data to check, the URI of the converted copy (None if
    nothing was converted), and the conversion's notes.
    """
    with find(origin, expected=expected) as (location, fingerprint):
        converted = converter and converter.convert(location, fingerprint, task, cache)
        if not converter or not converted:
            yield location, fingerprint, None, {}
            return
    uri = converter.datasets.build_uri(converted)
    with find(parse_source(uri, task), expected=converted.fingerprint) as (location, fingerprint):
        yield location, fingerprint, uri, converted.notes


def _examine(
    location: DatasetLocation,
    task: Task,
    fingerprint: str | None,
    rules: CheckRules,
    manifest: Path | None,
    known_files: Path | None,
) -> Any:
    """Return the result of `examine`, which runs in a confined process."""
    return run_confined(
        examine,
        location.as_json(),
        task,
        fingerprint,
        rules.model_dump(mode="json"),
        str(manifest) if manifest else None,
        str(known_files) if known_files else None,
        source=location.source,
    )


def _log_result(source: str, reference: DatasetReference, warnings: Iterable[FoundKind]) -> None:
    log.info("Dataset %s passed all checks: %s", source, reference.model_dump_json(exclude=_LONG))
    for kind in warnings:
        first = kind.places[0] if kind.places else "(not listed)"
        log.warning("Dataset %s: %s. First: %s", source, kind.heading, first)


def _draw(location: DatasetLocation, task: Task, rules: CheckRules, target: Path) -> None:
    """Draw samples of data that passed all checks. A DatasetError is only logged: samples are optional."""
    try:
        run_confined(draw_samples, location.as_json(), task, rules.split, str(target), source=location.source)
    except DatasetError as error:
        log.warning("No samples of %s were drawn: %s", location.source, error)
