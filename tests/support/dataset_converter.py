"""A program that checks a dataset in another format, for tests that kill its process.

Its argument is JSON: source, cache, bucket, client (arguments of boto3.client) and hosts (DATASET_URL_HOSTS).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import boto3

from include.datasets.caching.listing import S3Listings
from include.datasets.check import inspect_dataset
from include.datasets.conversion.addresses import AllowedHosts
from include.datasets.conversion.convert import Converter
from include.datasets.s3 import S3ObjectReader
from include.s3.bucket import Bucket


def main() -> None:
    job = json.loads(sys.argv[1])
    client = boto3.client("s3", **job["client"])
    bucket = Bucket(client, job["bucket"])
    inspect_dataset(
        job["source"],
        "detect",
        Path(job["cache"]),
        S3ObjectReader(client),
        listings=S3Listings(bucket),
        converter=Converter(bucket, AllowedHosts.parse(job["hosts"])),
    )


if __name__ == "__main__":
    main()
