"""Print every table, one after the other: `python -m benchmarks [--quick]`, or `make bench`."""

from __future__ import annotations

from benchmarks import kills, listing, loader, overhead, pipeline, retention, seeds, stall
from benchmarks.place import main

if __name__ == "__main__":
    main(
        pipeline.measure,
        overhead.measure,
        loader.measure,
        stall.measure,
        kills.measure,
        seeds.measure,
        retention.measure,
        listing.measure,
    )
