"""Stores listings of checked S3 prefixes, so that exactly the checked objects can be fetched later.

    s3://{checkpoint bucket}/datasets/{fingerprint}.jsonl.gz

A damaged listing counts as missing.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from include.datasets.caching.listing import DAMAGED, Listing
from include.s3.download import download
from include.s3.errors import ObjectNotFound, StoreRefusal
from include.s3.layout import listing_key

if TYPE_CHECKING:
    from include.datasets.sources import S3Tree
    from include.s3.bucket import Bucket

log = logging.getLogger(__name__)


class S3Listings:
    """The listings in one bucket, by fingerprint."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def save(self, listing: Listing) -> None:
        """Store a listing. If S3 does not allow that, only log a warning: the check need not fail.

        Raises StoreUnavailable if a retry may succeed.
        """
        listing.file.seek(0)
        try:
            self._bucket.put(listing_key(listing.fingerprint), listing.file)
        except StoreRefusal as error:
            log.warning(
                "The listing of the dataset was not stored, so other machines can fetch its files only "
                "as long as nothing under the prefix changes: %s",
                error,
            )

    def load(self, fingerprint: str, origin: S3Tree) -> Listing | None:
        """Return the objects that were checked; None if no intact listing is stored.

        Raises StoreErrors.
        """
        location = self._bucket.at(listing_key(fingerprint))
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "listing"
            try:
                with download(self._bucket.client, location, file):
                    pass
            except ObjectNotFound:
                return None
            try:
                listing = Listing.read(file, origin)
            except DAMAGED:
                listing = None
        if listing is not None and listing.fingerprint == fingerprint:
            return listing
        log.warning("%s is damaged and will be ignored.", location.uri)
        return None
