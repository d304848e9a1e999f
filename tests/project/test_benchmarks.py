"""The arithmetic behind the benchmark tables, and the selection of benchmarks on the command line."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import requests
from benchmarks.__main__ import PARTS
from benchmarks.costs import Cost
from benchmarks.fetching import OUR_SCAN, SCAN, SYNC, table_of
from benchmarks.fetching import OURS as FETCH
from benchmarks.figures import Difference, MedianInterval, ratios
from benchmarks.goodput import Attempt, Parts, simulate, train
from benchmarks.picture import draw
from benchmarks.place import part_name, read_arguments
from benchmarks.requests import Stored, Traffic, median_traffic
from benchmarks.table import Comparison, Table
from benchmarks.transfer_clients import OURS
from benchmarks.transfers import Series, rows

ROOT = Path(__file__).parents[2]
KNOWN = {part_name(part): part for part in PARTS}


def test_the_interval_of_a_median_is_that_of_the_sign_test_tables() -> None:
    """The interval has ranks 2 to 9 of ten values, 6 to 15 of twenty, and 14 to 27 of forty."""
    for count, low, high in ((6, 1, 6), (10, 2, 9), (20, 6, 15), (40, 14, 27)):
        middle = MedianInterval.of([float(rank) for rank in range(count, 0, -1)])
        assert (middle.median, middle.low, middle.high) == ((count + 1) / 2, low, high)


def test_five_values_are_too_few_for_an_interval() -> None:
    assert f"{MedianInterval.of([3.0, 1.0, 2.0, 5.0, 4.0]):.1f}" == "3.0"


def test_an_interval_is_written_after_its_median() -> None:
    assert f"{MedianInterval.of([6.0, 1.0, 2.0, 3.0, 4.0, 5.0]):.1f}" == "3.5 (1.0 to 6.0)"


def test_ratios_are_taken_between_paired_measurements() -> None:
    assert ratios([1.0, 9.0], [2.0, 3.0]) == [0.5, 3.0]
    with pytest.raises(ValueError, match="shorter"):
        ratios([1.0, 2.0], [1.0])


def test_the_error_of_a_difference_combines_both_standard_errors() -> None:
    difference = Difference.of([4.0, 6.0], [1.0, 2.0, 3.0])
    assert difference.mean == pytest.approx(3)
    assert difference.error == pytest.approx(math.sqrt(2 / 2 + 1 / 3))


def test_a_transfer_is_compared_with_the_fastest_other_client_excluding_its_start() -> None:
    """s5cmd takes 0.5 s; half of that is its start, so it counts as faster than boto3."""
    measured = {
        OURS: Series([Cost(0.5, 0.3)] * 3),
        "boto3": Series([Cost(0.4, 0.2)] * 3),
        "s5cmd": Series([Cost(0.5, 0.3)] * 3, starts=[Cost(0.25, 0.1)] * 3),
    }
    ours, _, s5cmd = rows(measured, 1_000_000)
    assert ours == (OURS, "0.50", "2", "0.50", "", "0.30", "1.50")
    assert s5cmd == ("s5cmd", "0.25", "4", "1.00", "0.25", "0.20", "1.00")


def test_the_result_of_a_table_names_the_ratios_that_miss_the_target(tmp_path: Path) -> None:
    table = Table("Speed", "How.", ("what", "ratio"), [("a", "1.50")])
    table.result = str(table.compare("at most 1.2", {"a": 1.5, "b": 1.0}, 1.2))
    result = "the target is at most 1.2, and it is missed by a (1.50), and met by b (1.00)."
    assert str(table).endswith(f"| a | 1.50 |\n\nResult: {result}\n")
    assert str(Comparison("1", {"b": 1.0}, 1.0, at_least=True)) == "the target is 1, and it is met: b (1.00)."
    draw(table, tmp_path / "speed.svg")
    drawn = (tmp_path / "speed.svg").read_text()
    assert "<!-- 1.50 -->" in drawn
    assert "<!-- at most 1.2 -->" in drawn


def test_the_traffic_of_a_state_is_the_median_traffic_between_two_states() -> None:
    moments = [Traffic(Counter(PUT=puts), puts * 10, 0) for puts in (5, 7, 9, 20)]
    assert median_traffic(moments) == Traffic(Counter(PUT=2), 20, 0)


def test_the_bytes_sent_by_a_job_are_compared_with_its_files_and_its_epochs() -> None:
    stored = [Stored("last", 10_000_000, 0), Stored("best", 2_000_000, 0), Stored("last", 10_000_000, 1)]
    text = requests.summary(Traffic(Counter(PUT=5, HEAD=3), 24_000_000, 0), stored, epochs=2)
    assert "there were 0" in text
    assert "sent 1.0909 times as many bytes: 1.200 times 2 x the size of last.pt" in text
    assert "8 requests, 4.0 for each epoch" in text


def test_a_killed_attempt_keeps_the_last_usable_state() -> None:
    """Training pauses for 1 s at 60 and 120 s; the state is on disk 2 s later, and in S3 after 8 s more."""
    parts = Parts(publish=60, pause=1, written=2, upload=8, job=600)
    assert train(parts, 0, 125).durable == 120
    assert train(parts, 0, 123).durable == 60
    assert train(replace(parts, elsewhere=True), 0, 125).durable == 60
    assert train(parts, 60, 30) == Attempt(reached=90, durable=60, seconds=30)
    assert train(replace(parts, epoch=25), 0, 60).durable == 50


def test_an_attempt_that_is_not_killed_finishes_the_job() -> None:
    assert train(Parts(publish=60, pause=1, job=100), 0, 1000) == Attempt(100, 60, 102)


def test_goodput_without_kills_is_reduced_only_by_the_pauses() -> None:
    run = simulate(Parts(publish=60, pause=0.6, job=6000), mean=1e12, seed=0)
    assert run.kills == 0
    assert run.goodput == pytest.approx(1 / 1.01)


def test_kills_cost_the_repeated_work_and_the_restarts() -> None:
    parts = Parts(pause=0, job=36_000)
    run = simulate(parts, mean=900, seed=1)
    assert run.kills > 20
    assert 20 < run.repeated / run.kills < 40
    assert run.goodput == pytest.approx(parts.job / (parts.job + run.repeated + run.down))


def test_fetching_is_compared_with_copy_plus_scan() -> None:
    spent = {SYNC: 3.0, SCAN: 1.0, FETCH: 2.0, OUR_SCAN: 1.0}
    table = table_of({name: [Cost(seconds, seconds)] * 3 for name, seconds in spent.items()}, 10_000)
    assert table.rows[-2:] == [("ours / plain", "0.50", ""), ("ours with the scan / plain", "0.75", "")]
    assert ("plain, together", "4.0", "4.0") in table.rows


def test_all_parts_are_measured_unless_some_are_named(tmp_path: Path) -> None:
    assert read_arguments(KNOWN, []).parts == KNOWN
    given = read_arguments(KNOWN, ["transfers", "kills", "--quick", "--out", str(tmp_path)])
    assert list(given.parts) == ["kills", "transfers"]
    assert (given.quick, given.out) == (True, tmp_path)


def test_an_unknown_part_is_refused_with_a_list_of_the_parts(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read_arguments(KNOWN, ["kills", "transfer"])
    output = " ".join(capsys.readouterr().err.split())
    assert f"there is no part transfer; the parts are {', '.join(KNOWN)}" in output


def test_every_module_that_measures_is_a_part_and_is_documented() -> None:
    modules = {
        path.stem
        for path in (ROOT / "benchmarks").glob("*.py")
        if "def measure(folder: Path, quick: bool) -> Table:" in path.read_text()
    }
    assert modules == set(KNOWN)
    named = (ROOT / "docs" / "benchmarks.md").read_text().partition("```bash")[2].partition("```")[0]
    assert {name for name in KNOWN if name not in named} == set()
