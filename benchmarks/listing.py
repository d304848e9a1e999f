"""Measure the response times of the API with a million jobs.

`python -m benchmarks.listing [--quick]` prints the table.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.figures import MedianInterval
from benchmarks.place import main, stopping
from benchmarks.planting import ANCESTOR, LONG, NEVER_TOGETHER, RARE_DATASET, plant, settle
from benchmarks.table import Table, progress
from include.api import PREFIX
from include.stack.local import Stack
from include.stack.ports import open_session
from include.stack.steps import Steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import requests


@dataclass(frozen=True)
class Question:
    """A GET request, with the title of its row."""

    title: str
    path: str
    query: dict[str, Any] = field(default_factory=dict)


SETTLE_SECONDS = 60
"""Seconds to wait after the stack has started: at first it still parses Dags and imports packages."""


def measure(folder: Path, quick: bool) -> Table:
    """Start the stack, insert the jobs, and time the requests."""
    jobs, rounds = (5_000, 6) if quick else (1_000_000, 31)
    table = Table(
        f"The API with {jobs:,} training jobs",
        "Requests go over HTTP to the real API server of a whole local stack, one after the other on one "
        f"connection, with a token; responses are JSON. Each figure is the median of {rounds} requests with "
        "its 95 % CI. `database` is how long the SQL statements of the request take on an open connection. "
        "The jobs are spread over 21 datasets (one of them only in the oldest 200), 8 models and 4 "
        "statuses, and their ids contain the time of their creation. The newest 5,000 have 30 to 300 "
        "recorded epochs each.",
        ("request", "matches", "time", "database"),
    )
    with ExitStack() as resources:
        stack = resources.enter_context(stopping(Stack.at(folder / "stack")))
        _start_with_jobs(stack, jobs, with_epochs=min(5_000, jobs // 10))
        stack.up(Steps.quiet())
        time.sleep(0 if quick else SETTLE_SECONDS)
        session = resources.enter_context(_log_in(stack))
        connection = resources.enter_context(closing(_connect(stack)))
        for question in _questions(session, stack, deep=jobs // 4):
            answer = _get(session, stack, question)
            over_http = _time(lambda: _get(session, stack, question), rounds)  # noqa: B023 - called at once
            inside = _time(lambda: _ask_database(connection, question), rounds)  # noqa: B023
            row = (question.title, _matches(answer), f"{over_http:.1f} ms", f"{inside:.1f} ms")
            progress(" · ".join(row))
            table.add(*row)
        connecting = _time(lambda: _connect(stack).close(), rounds)
        table.add("a new connection to the database", "", "", f"{connecting:.1f} ms")
    return table


def _questions(session: requests.Session, stack: Stack, deep: int) -> Iterator[Question]:
    yield Question("who am I (no database)", "/session")
    yield Question("first page", "/jobs")
    yield Question("first page of 100", "/jobs", {"limit": 100})
    yield Question("a page deep inside", "/jobs", {"cursor": _cursor_at(stack, deep)})
    for status in ("completed", "failed", "running"):
        yield Question(f"status={status}", "/jobs", {"status": status})
    yield Question("a common dataset", "/jobs", {"dataset": "s3://data/set-00"})
    yield Question("a dataset of only the oldest 200", "/jobs", {"dataset": RARE_DATASET})
    yield Question("an unknown dataset", "/jobs", {"dataset": "nowhere"})
    yield Question("a model", "/jobs", {"model": "yolo11m"})
    dataset, model = NEVER_TOGETHER
    both = {"dataset": "s3://data/set-05", "model": model}
    yield Question("dataset and model", "/jobs", both)
    yield Question("dataset, model and status", "/jobs", both | {"status": "failed"})
    yield Question("status and model", "/jobs", {"status": "stopped", "model": "yolo12n"})
    yield Question("a dataset and a model never used together", "/jobs", {"dataset": dataset, "model": model})
    yield Question("a running job of a rare dataset", "/jobs", {"dataset": RARE_DATASET, "status": "running"})
    (oldest,) = _first(stack, "SELECT job_id FROM training_jobs WHERE run_id = 'manual__1'")
    for title, length in (("year", 11), ("month", 13), ("day", 15), ("second", 22)):
        yield Question(f"prefix of the oldest {title}", "/jobs", {"prefix": oldest[:length]})
    yield Question("prefix of all jobs", "/jobs", {"prefix": "detect-"})
    yield Question("a month's failed jobs", "/jobs", {"prefix": oldest[:13], "status": "failed"})
    yield Question("a Dag run", "/jobs", {"dag_id": "train_yolo", "run_id": "manual__77"})
    yield Question("an unknown Dag", "/jobs", {"dag_id": "nothing"})
    (newest,) = _first(
        stack, "SELECT job_id FROM training_jobs WHERE status = 'running' ORDER BY created_at LIMIT 1"
    )
    yield Question("a job", f"/jobs/{newest}")
    yield Question("a job of 1,000 epochs", f"/jobs/{LONG}")
    yield Question("its epochs", f"/jobs/{LONG}/epochs")
    yield Question("lineage of 121 jobs", f"/jobs/{ANCESTOR}/lineage")
    yield Question("lineage of a job in the middle", f"/jobs/{ANCESTOR}-2-2/lineage")
    yield Question("lineage of a job without relatives", f"/jobs/{newest}/lineage")


def _ask_database(connection: Any, question: Question) -> None:
    """Run the database queries of the route."""
    from include.api.pages import decode_cursor
    from include.jobs.listing import JobFilter, JobListing, PagePosition
    from include.jobs.repository import JobRepository

    listing = JobListing(connection)
    if question.path == "/jobs":
        from pydantic import TypeAdapter

        query = dict(question.query)
        limit, cursor = query.pop("limit", 25), query.pop("cursor", None)
        wanted = JobFilter(**query)
        page = listing.find_page(wanted, limit, decode_cursor(cursor, TypeAdapter(PagePosition)))
        listing.find_details([job.job_id for job in page.jobs])
        return
    if question.path == "/session":
        return
    _, _, job_id, *rest = question.path.split("/")
    if rest == ["lineage"]:
        listing.find_lineage(job_id)
        return
    listing.require(job_id)
    if rest == ["epochs"]:
        JobRepository(connection).list_epochs(job_id, limit=1001)
    else:
        listing.find_details([job_id])


def _start_with_jobs(stack: Stack, jobs: int, with_epochs: int) -> None:
    import psycopg

    from include.schema.migrations import apply
    from include.schema.session import make_engine
    from include.stack.postgres import TRAINING_APPLICATION

    progress(f"planting {jobs:,} jobs …")
    stack.start_servers(Steps.quiet())
    engine = make_engine(lambda: psycopg.connect(stack.training_db_url))  # migrations need transactions
    apply(engine, "0004")
    with closing(_connect(stack)) as connection:
        plant(connection, jobs, with_epochs)
        progress("making indexes …")
        apply(engine, application_role=TRAINING_APPLICATION)
        settle(connection)


def _connect(stack: Stack) -> Any:
    import psycopg

    return psycopg.connect(stack.training_db_url, autocommit=True)


def _first(stack: Stack, statement: str, *values: int) -> tuple[str, ...]:
    """Return the first row of the statement, which must return one."""
    with closing(_connect(stack)) as connection:
        row: tuple[str, ...] = connection.execute(statement, values).fetchone()
        return row


def _cursor_at(stack: Stack, deep: int) -> str:
    """Return a cursor to the page that follows the job with `deep` newer jobs."""
    from include.api.pages import encode_cursor

    newer = "SELECT created_at::text, job_id FROM training_jobs ORDER BY created_at DESC OFFSET %s LIMIT 1"
    return encode_cursor(*_first(stack, newer, deep))


def _log_in(stack: Stack) -> requests.Session:
    session = open_session()
    login = {"username": stack.username, "password": stack.password}
    login_response = session.post(f"{stack.url}/auth/token", json=login, timeout=60)
    session.headers["Authorization"] = f"Bearer {login_response.json()['access_token']}"
    return session


def _get(session: requests.Session, stack: Stack, question: Question) -> dict[str, Any]:
    answer = session.get(f"{stack.url}{PREFIX}{question.path}", params=question.query, timeout=60)
    answer.raise_for_status()
    body: dict[str, Any] = answer.json()
    return body


def _matches(answer: dict[str, Any]) -> str:
    if "total" not in answer:
        return ""
    return f"{'about ' if answer['total_is_estimate'] else ''}{answer['total']:,}"


def _time(ask: Callable[[], object], rounds: int) -> MedianInterval:
    """Return the median duration of the call in milliseconds, after two warm-up calls."""
    for _ in range(2):
        ask()
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        ask()
        taken.append((time.perf_counter() - started) * 1000)
    return MedianInterval.of(taken)


if __name__ == "__main__":
    main(measure)
