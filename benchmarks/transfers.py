"""Measure how fast checkpoints are uploaded and downloaded, compared with programs that only copy files.

`python -m benchmarks.transfers [--quick]` prints the table.
"""

from __future__ import annotations

import os
import statistics
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from benchmarks.figures import MedianInterval, ratios, rotated
from benchmarks.place import local_services, main
from benchmarks.proxy import Proxy
from benchmarks.table import Table, progress
from benchmarks.transfer_clients import OURS, OVER_AN_OLDER, open_clients

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.costs import Cost
    from benchmarks.transfer_clients import Client

SIZES = (58_000_000, 443_000_000)
"""Bytes of the states of YOLO11n and YOLO11m."""
ROUND_TRIP = 0.020
"""Round-trip time in seconds, as to a region on the same continent."""

_TICK = 0.01
"""The smallest measurable difference in processor time, in seconds."""


_ABOUT = (
    "Files of random bytes, to the S3 server of the local stack and back, directly on the same machine and "
    "through a proxy that adds a round trip of {round_trip:.0f} ms. Ours does what a training run does: an "
    "upload hashes the file, sends it with conditions and checksum, and verifies what is stored. A download "
    "is hashed and compared with the metadata. boto3 uses `upload_file` and `download_file` with the same "
    "client settings. boto3, s5cmd and rclone verify nothing against a hash computed by us. The clients take "
    "turns, and each round starts with a different one; medians of {rounds} with the 95 % CI. Ours and boto3 "
    "run in warm processes. s5cmd and rclone are started for each transfer, and `start` (`s5cmd version`, "
    "`rclone version`) is already subtracted from their figures. `to the fastest` is the rate divided by "
    "that of the fastest other client. `processor` is the client's own processor time in seconds, and the "
    "last column is that time divided by the fastest other client's."
)


@dataclass
class Series:
    """The cost of one client's transfers, and of starting its process if each transfer includes a start."""

    transfers: list[Cost] = field(default_factory=list)
    starts: list[Cost] = field(default_factory=list)

    @property
    def seconds(self) -> list[float]:
        """Seconds of each transfer, minus the median time to start the process; at least a millisecond."""
        return [max(spent.seconds - self.start, 0.001) for spent in self.transfers]

    @property
    def start(self) -> float:
        """Median seconds to start the process; 0 if it was warm."""
        return statistics.median(spent.seconds for spent in self.starts) if self.starts else 0.0

    @property
    def processor_seconds(self) -> float:
        """Median processor seconds of a transfer, minus those to start the process; at least a tick."""
        start = statistics.median(spent.processor_seconds for spent in self.starts) if self.starts else 0.0
        return max(statistics.median(spent.processor_seconds for spent in self.transfers) - start, _TICK)


def measure(folder: Path, quick: bool) -> Table:
    """Time all clients in turn, for each size, directly and with an added round-trip time."""
    rounds = 2 if quick else 7
    table = Table(
        "Uploading and downloading checkpoints",
        _ABOUT.format(round_trip=ROUND_TRIP * 1000, rounds=rounds),
        ("transfer", "client", "seconds", "MB/s", "to the fastest", "start", "processor", "to its"),
    )
    rates: dict[str, float] = {}
    processor: dict[str, float] = {}
    for size in (2_000_000,) if quick else SIZES:
        for round_trip in (0.0, ROUND_TRIP):
            link = f", {round_trip * 1000:.0f} ms" if round_trip else ""
            progress(f"{size / 1e6:.0f} MB{link} …")
            own = folder / f"{size}-{round_trip * 1000:.0f}"  # a new server; deleted objects take space
            own.mkdir()
            uploads, downloads = _transfer(own, size, round_trip, rounds)
            for title, measured in (("upload", uploads), ("download", downloads)):
                name = f"{title}, {size / 1e6:.0f} MB{link}"
                for cells in rows(measured, size):
                    table.add(name, *cells)
                fastest, ours = _fastest(measured), measured[OURS]
                rates[name] = statistics.median(ratios(fastest.seconds, ours.seconds))
                processor[name] = ours.processor_seconds / fastest.processor_seconds
    rate = table.compare("at least the rate of the fastest other client", rates, 1.0, at_least=True)
    work = table.compare("at most 1.5 times its processor time", processor, 1.5)
    table.result = f"{rate} For processor time, {work}"
    return table


def _transfer(
    folder: Path, size: int, round_trip: float, rounds: int
) -> tuple[dict[str, Series], dict[str, Series]]:
    """Return the cost of the uploads and of the downloads of each client."""
    uploads: dict[str, Series] = {}
    downloads: dict[str, Series] = {}
    source, target = folder / "source.pt", folder / "target.pt"
    source.write_bytes(os.urandom(size))
    with ExitStack() as stack:
        services = stack.enter_context(local_services(folder))
        if round_trip:
            proxy = stack.enter_context(Proxy(services.endpoint_url, round_trip))
            services = replace(services, endpoint_url=proxy.endpoint_url)
        clients = stack.enter_context(open_clients(services))
        for number in range(rounds + 1):  # the first round only opens connections and files
            for client in rotated(clients, number):
                _change(source)
                job_id = "kept" if client.title == OVER_AN_OLDER else f"job-{number}"
                _note(uploads, client, client.upload(source, job_id), number)
                if client.title != OVER_AN_OLDER:
                    _note(downloads, client, client.download(job_id, target), number)
                    _require_equal(source, target, client.title)
                    target.unlink()
    return uploads, downloads


def _change(source: Path) -> None:
    """Change the file, because content that S3 already has is not sent again."""
    with source.open("r+b") as file:
        file.write(os.urandom(32))


def _note(series: dict[str, Series], client: Client, spent: Cost, number: int) -> None:
    own = series.setdefault(client.title, Series())
    if number:
        own.transfers.append(spent)
        if start := client.start():
            own.starts.append(start)


def _require_equal(source: Path, target: Path, title: str) -> None:
    with source.open("rb") as sent, target.open("rb") as received:
        while (block := sent.read(1 << 20)) == received.read(1 << 20):
            if not block:
                return
    raise RuntimeError(f"{title} downloaded bytes that differ from the uploaded bytes")


def rows(measured: dict[str, Series], size: int) -> Iterator[tuple[str, ...]]:
    """Yield the cells of each client; `size` is in bytes."""
    fastest = _fastest(measured)
    for title, series in measured.items():
        rate = MedianInterval.of(ratios(fastest.seconds, series.seconds))
        yield (
            title,
            f"{MedianInterval.of(series.seconds):.2f}",
            f"{size / 1e6 / statistics.median(series.seconds):.0f}",
            f"{rate:.2f}",
            f"{series.start:.2f}" if series.starts else "",
            f"{series.processor_seconds:.2f}",
            f"{series.processor_seconds / fastest.processor_seconds:.2f}",
        )


def _fastest(measured: dict[str, Series]) -> Series:
    others = (series for title, series in measured.items() if not title.startswith(OURS))
    return min(others, key=lambda series: statistics.median(series.seconds))


if __name__ == "__main__":
    main(measure)
