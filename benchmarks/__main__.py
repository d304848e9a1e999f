"""Print the tables, one after the other: `python -m benchmarks [--quick] [part …]`, or `make bench`."""

from __future__ import annotations

from benchmarks import (
    fetching,
    goodput,
    kills,
    listing,
    loader,
    overhead,
    parsing,
    pipeline,
    requests,
    restarts,
    retention,
    seeds,
    stall,
    transfers,
)
from benchmarks.place import main

PARTS = (
    pipeline.measure,
    overhead.measure,
    loader.measure,
    stall.measure,
    kills.measure,
    restarts.measure,
    goodput.measure,
    transfers.measure,
    requests.measure,
    fetching.measure,
    parsing.measure,
    seeds.measure,
    retention.measure,
    listing.measure,
)

if __name__ == "__main__":
    main(*PARTS)
