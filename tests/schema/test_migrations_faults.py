"""Concurrent, killed and cut-off migrations, in real processes, leave a host application's table correct."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from include.schema.current import MIGRATIONS, list_revisions
from include.schema.migrations import apply, verify
from tests.support import host_applications
from tests.support.host_applications import HOST_APPLICATIONS
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]
REVISIONS = list_revisions(MIGRATIONS)

PROGRAM = """
import sys
from pathlib import Path
from include.schema.current import MIGRATIONS, list_revisions
from include.schema.migrations import apply
from include.schema.session import LockTimeouts
from tests.support.host_applications import engine
scripts = Path(sys.argv[2]) if len(sys.argv) > 2 else MIGRATIONS
timeouts = LockTimeouts(table="5min", silence=sys.argv[3] if len(sys.argv) > 3 else "1min")
print(apply(engine(sys.argv[1], application_name="migration"), scripts=scripts, timeouts=timeouts).revisions)
"""

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def host_connection(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    """Yield the host application's own connection, to a database with its table."""
    with psycopg.connect(database_url) as connection:
        host_applications.install(connection, HOST_APPLICATIONS["integer"])
        yield connection


@pytest.fixture
def as_it_was(host_connection: psycopg.Connection[Any]) -> Iterator[None]:
    """Require that the host application's rows are the same at the end as at the beginning."""
    columns = host_applications.columns(host_connection)
    rows = host_applications.rows(host_connection, columns)
    yield
    assert host_applications.rows(host_connection, columns) == rows


@pytest.fixture
def start(database_url: str) -> Iterator[Start]:
    """Yield a function that starts processes that migrate; those still running at the end are killed."""
    started: list[subprocess.Popen[str]] = []

    def run(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", PROGRAM, database_url, *arguments]
        process = subprocess.Popen(
            command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def _backend(url: str, doing: str) -> int:
    """Wait until a migration is in the middle of `doing`, and return the id of its server process."""
    with psycopg.connect(url, autocommit=True) as observer:
        for _ in range(600):
            found = observer.execute(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
                "AND application_name = 'migration' AND state = 'active' "
                "AND wait_event_type IN ('Lock', 'Timeout') "  # waits for a table, or in pg_sleep
                "AND query LIKE %s",
                [f"%{doing}%"],
            ).fetchone()
            if found:
                return int(found[0])
            time.sleep(0.1)
    raise AssertionError(f"no migration came to {doing}")


def _gone(url: str, backend: int) -> None:
    """Wait until the server has noticed that the migration's client is dead."""
    with psycopg.connect(url, autocommit=True) as observer:
        until(
            lambda: not observer.execute("SELECT FROM pg_stat_activity WHERE pid = %s", [backend]).fetchone(),
            f"server process {backend} has released what the migration locked",
            seconds=60,
            pause=0.1,
        )


def _planted(directory: Path, body: str) -> Path:
    """Return a folder with the revisions, and one more whose SQL is `body`."""
    scripts = Path(shutil.copytree(MIGRATIONS, directory / "migrations"))
    (scripts / "versions" / "planted.py").write_text(
        "from alembic import op\n"
        f"revision = 'planted'\ndown_revision = '{REVISIONS[-1]}'\nCOLUMNS = {{}}\n"
        f"def upgrade():\n    op.execute({body!r})\n"
    )
    return scripts


def test_only_one_of_several_simultaneous_runs_migrates(
    start: Start, database_url: str, as_it_was: None
) -> None:
    runs = [start() for _ in range(3)]
    outputs = sorted(run.communicate()[0].strip() for run in runs)
    assert [run.returncode for run in runs] == [0, 0, 0]
    assert outputs == [str(REVISIONS), "()", "()"]
    verify(host_applications.engine(database_url))


def test_a_run_killed_inside_a_revision_leaves_nothing_and_the_next_one_succeeds(
    start: Start, database_url: str, host_connection: psycopg.Connection[Any], as_it_was: None
) -> None:
    before = host_applications.structure(host_connection)
    host_connection.execute("SELECT FROM training_jobs LIMIT 1")
    run = start()
    backend = _backend(database_url, "ALTER TABLE training_jobs ADD COLUMN job_id")
    run.kill()
    run.wait()
    _gone(database_url, backend)
    host_connection.commit()
    assert host_applications.structure(host_connection) == before
    apply(host_applications.engine(database_url))
    verify(host_applications.engine(database_url))


def test_the_next_run_completes_one_that_was_killed_between_commits(
    start: Start, database_url: str, tmp_path: Path, as_it_was: None
) -> None:
    # A rollback does not reset the sequence: only the real migration, after the rehearsal, sleeps.
    body = "CREATE TABLE half (a int); SELECT pg_sleep(600 * (nextval('times') - 1))"
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE SEQUENCE times")
    run = start(str(_planted(tmp_path, body)))
    backend = _backend(database_url, "pg_sleep")
    run.kill()
    run.wait()
    _gone(database_url, backend)
    engine = host_applications.engine(database_url)
    verify(engine)
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT to_regclass('half')").fetchone() == (None,)
    assert apply(engine).revisions == ()


def test_a_run_whose_machine_freezes_or_loses_power_does_not_keep_its_locks(
    start: Start, database_url: str, host_connection: psycopg.Connection[Any], tmp_path: Path
) -> None:
    host_connection.commit()
    run = start(str(_planted(tmp_path, "LOCK TABLE training_jobs; SELECT pg_sleep(2)")), "1s")
    backend = _backend(database_url, "pg_sleep")
    run.send_signal(signal.SIGSTOP)  # as after a power cut, the connection is neither used nor closed
    _gone(database_url, backend)
    apply(host_applications.engine(database_url))
    verify(host_applications.engine(database_url))


@pytest.mark.parametrize("limit", ["statement_timeout", "transaction_timeout"])
def test_a_time_limit_of_the_host_application_does_not_end_a_revision(
    limit: str, database_url: str, host_connection: psycopg.Connection[Any], tmp_path: Path
) -> None:
    """Such as that of indexes of a large table, which would take as long in every further attempt."""
    host_connection.execute(
        f"ALTER ROLE CURRENT_USER IN DATABASE {host_connection.info.dbname} SET {limit} = '2s'"
    )
    host_connection.commit()
    apply(host_applications.engine(database_url), scripts=_planted(tmp_path, "SELECT pg_sleep(2.2)"))


def test_a_run_whose_connection_is_cut_fails_and_the_next_one_succeeds(
    start: Start, database_url: str, host_connection: psycopg.Connection[Any], as_it_was: None
) -> None:
    before = host_applications.structure(host_connection)
    host_connection.execute("SELECT FROM training_jobs LIMIT 1")
    run = start()
    backend = _backend(database_url, "ALTER TABLE training_jobs ADD COLUMN job_id")
    host_connection.execute("SELECT pg_terminate_backend(%s)", [backend])
    assert "AdminShutdown" in run.communicate()[1]
    assert run.returncode == 1
    host_connection.commit()
    assert host_applications.structure(host_connection) == before
    apply(host_applications.engine(database_url))
    verify(host_applications.engine(database_url))
