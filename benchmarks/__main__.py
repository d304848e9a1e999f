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

# The slowest parts come first: when parts run in parallel, a slow one that starts late would prolong the run.
PARTS = (
    pipeline.measure,
    restarts.measure,
    parsing.measure,
    listing.measure,
    overhead.measure,
    kills.measure,
    seeds.measure,
    goodput.measure,
    loader.measure,
    stall.measure,
    transfers.measure,
    requests.measure,
    fetching.measure,
    retention.measure,
)

if __name__ == "__main__":
    main(*PARTS)
