"""Fetches the images of an export from the web, several at a time; continues an earlier attempt."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from include.datasets.conversion.addresses import SETTING, parse_address
from include.datasets.conversion.problems import Problems
from include.datasets.conversion.web import FetchLimits, FetchRefused, open_web
from include.datasets.errors import DatasetError
from include.datasets.parallel import map_in_order
from include.datasets.progress import ProgressLog
from include.limits import ARCHIVE_BYTES, in_words
from include.refusals import list_some

if TYPE_CHECKING:
    from collections.abc import Mapping

    from include.datasets.conversion.addresses import AllowedHosts
    from include.datasets.conversion.files import Asset, ConvertedFiles
    from include.datasets.conversion.web import WebReader

LIMITS = FetchLimits()
_CONNECTIONS = 32
_FAILURES = 100
"""Once this many images have been refused, no more are requested: probably, all signatures have expired."""


def require_allowed(hosts: Mapping[str, int], allowed: AllowedHosts, source: str) -> None:
    """Raise DatasetError unless images may be fetched from all `hosts`.

    `hosts` maps each host to the number of files to fetch from it.
    """
    refused = sorted(host for host in hosts if not allowed.allows(parse_address(f"https://{host}")))
    if not refused:
        return
    listed = list_some([f"{host} ({hosts[host]:,} files)" for host in refused], 5)
    raise DatasetError(
        f"Dataset {source!r} has its images at {listed}, but images are fetched only from the hosts listed "
        f"in {SETTING}. Have these hosts added to the setting on the workers that check datasets, or upload "
        "the images to S3 with a data YAML"
    )


def fetch_images(files: ConvertedFiles, allowed: AllowedHosts, source: str) -> None:
    """Fetch all files that have a URL and have not been fetched yet.

    Raises DatasetError, ImagesUnavailable and OSError. The DatasetError lists the files that cannot be
    fetched, or says that the total size exceeds ARCHIVE_BYTES.
    """
    total = sum(1 for _ in files.read_asset_list())
    progress = ProgressLog(f"Fetching the images of {source}", total, "files")
    problems, left = Problems(source, "fetch"), ARCHIVE_BYTES
    with open_web(allowed, LIMITS, _CONNECTIONS) as web:
        fetched = map_in_order(partial(_fetch, web, files), files.read_asset_list(), _CONNECTIONS)
        for asset, problem in fetched:
            if problem is not None:
                problems.add(problem, asset.name)
                if problems.count >= _FAILURES:
                    break
                continue
            progress.advance()
            left -= files.locate_fetched(asset).stat().st_size
            if left < 0:
                raise DatasetError(
                    f"Dataset {source!r} exceeds the limit of {in_words(ARCHIVE_BYTES)} for images from the "
                    "web; upload them to S3 with a data YAML"
                )
    problems.raise_any()


def _fetch(web: WebReader, files: ConvertedFiles, asset: Asset) -> tuple[Asset, str | None]:
    """Fetch one file; return it, and why it cannot be fetched (None if it was fetched)."""
    path = files.locate_fetched(asset)
    try:
        if not path.is_file():
            web.fetch(asset.url or "", path)
    except FetchRefused as problem:
        return asset, f"the file cannot be fetched: {problem}"
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        return asset, "a folder of other images has the same name; rename the image"
    return asset, None
