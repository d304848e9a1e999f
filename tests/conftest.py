"""Real services for the tests; each test process starts them once on free ports and stops them at its end."""

from __future__ import annotations

import gc
import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import psutil
import pytest

from include.deployment.settings import DEFAULT_BUCKET
from include.stack import ports
from include.stack.local import Stack
from include.stack.s3_identities import Role
from include.stack.steps import Steps
from include.training.environment import isolate_ultralytics
from tests.support.api_stack import ApiStack
from tests.support.mlflow_server import MlflowServer
from tests.support.release_server import Release
from tests.support.release_server import serving as serving_releases
from tests.support.retrain_plans import of_the_stack
from tests.support.stacks import UNSAFE_BUT_FAST, keep_logs, kill, reachable_directory, start_airflow

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from include.stack.postgres import Postgres
    from include.stack.s3 import S3
    from tests.support.airflow_client import Airflow

pytest_plugins = [
    "tests.support.browsing",
    "tests.support.databases",
    "tests.support.dataset_fetcher",
    "tests.support.distribution",
    "tests.support.nginx",
]

# Not in pytest_configure: the conftest.py of a folder on the command line is imported earlier, and may import
# Airflow.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="yolo-training-airflow-home-")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that `make soak` uses to run the tests longer."""
    parser.addoption(
        "--fuzz-inputs", type=int, default=50, help="how many inputs of each kind tests/fuzz makes up"
    )
    parser.addoption(
        "--faults", choices=("short", "all"), default="short", help="which faults tests/faults injects"
    )
    parser.addoption("--report", help="where to write the table of the kills, or of the faults")


def pytest_configure(config: pytest.Config) -> None:
    """Keep Airflow and Ultralytics out of the user's home, and limit torch to its share of the cores."""
    # Several test processes share the cores, so more threads per process would make all of them slower.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # A port is bound some time after it was chosen, so each test process has its own candidates.
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    ports.CANDIDATES = ports.CANDIDATES[process % 8 :: 8]  # 8 divides GRPC_OFFSET
    home = os.environ["AIRFLOW_HOME"]
    isolate_ultralytics()  # some tests import Ultralytics before the code under test isolates it
    os.environ["YOLO_CONFIG_DIR"] = home  # the user's own settings must neither matter nor change
    # No test needs a network, and the shipped retraining plan would keep the test stack busy for minutes.
    os.environ["PRETRAINED_URL"] = "off"
    os.environ["QUOTA_USERS"] = "limited=1:none"  # for tests that start training runs as the user `limited`
    os.environ["RETRAIN_PLANS"] = str(of_the_stack(Path(home)))
    config.add_cleanup(lambda: shutil.rmtree(home, ignore_errors=True))


def pytest_make_parametrize_id(val: object, argname: str) -> None:
    """Demand an explicit id for long bytes: gzip output contains the time, so ids would vary.

    Raises:
        ValueError: `val` is longer than 16 bytes and has no `pytest.param(..., id=...)`.

    """
    if isinstance(val, bytes) and len(val) > 16:
        raise ValueError(f"{argname}={val[:16]!r}... needs an id of its own: pytest.param(..., id=...)")


def pytest_sessionstart() -> None:
    """Handle SIGTERM like Ctrl-C; otherwise `kill` or `timeout` would leave the servers running."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def pytest_keyboard_interrupt() -> None:
    """Ignore further signals, so that stopping the servers is not interrupted."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Interrupt the other test processes too, and give them time to stop their servers."""
    distributing = session.config.pluginmanager.getplugin("dsession")
    if distributing and exitstatus == pytest.ExitCode.INTERRUPTED:
        distributing.nodemanager.EXIT_TIMEOUT = 150
        for process in psutil.Process().children():
            process.terminate()


def pytest_collection_finish() -> None:
    """Exclude imported modules from garbage collection, because each training run triggers it twice.

    Scanning a million objects takes a second, and copies their memory in each process that a test forks.
    """
    gc.collect()
    gc.freeze()


AIRFLOW = pytest.StashKey[Stack]()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Stop Airflow after the last test of this process that needs it."""
    from tests.support.distribution import group_of  # here, because pytest must load this plugin first

    stack = item.config.stash.get(AIRFLOW, None)
    if stack and nextitem and group_of(str(nextitem.path)) != group_of(str(item.path)):
        kill_airflow(item.config)


def kill_airflow(config: pytest.Config) -> None:
    """Kill Airflow, if it runs."""
    if stack := config.stash.get(AIRFLOW, None):
        kill(*stack.airflow.services)
        del config.stash[AIRFLOW]


@pytest.fixture(scope="session")
def stack(pytestconfig: pytest.Config) -> Iterator[Stack]:
    """Yield a local stack, independent of a running demo; the fixtures below start its services."""
    with reachable_directory() as directory:
        stack = Stack.at(directory, UNSAFE_BUT_FAST, (DEFAULT_BUCKET, "test-*"))
        try:
            yield stack
        finally:
            kill_airflow(pytestconfig)
            kill(stack.s3.service)
            stack.down(Steps.quiet())
            keep_logs(stack)


@pytest.fixture(scope="session")
def postgres(stack: Stack) -> Postgres:
    """Start and return the PostgreSQL server of this test session."""
    stack.postgres.start()
    stack.postgres.ensure_roles()
    return stack.postgres


@pytest.fixture(scope="session")
def open_api() -> Iterator[str]:
    """Yield the URL of an API server that is open to everybody; `lead_to` sets its database and bucket."""
    # Imported here, because this module imports Airflow, which then reads AIRFLOW_HOME.
    from tests.support.api_server import open_app, serving

    with serving(open_app()) as url:
        yield url


@pytest.fixture
def api_url(
    monkeypatch: pytest.MonkeyPatch, migrated_url: str, s3: S3, bucket: str, tmp_path: Path, open_api: str
) -> str:
    """Return the URL of `open_api` after pointing it to the schema of the test's file and a fresh bucket."""
    from tests.support.airflow_connections import lead_to

    lead_to(monkeypatch, migrated_url, s3, bucket, tmp_path, Role.API)
    return open_api


@pytest.fixture
def airflow_connections(
    monkeypatch: pytest.MonkeyPatch, migrated_url: str, s3: S3, bucket: str, tmp_path: Path
) -> None:
    """Point a worker's connections to the schema of the test's file and a fresh bucket."""
    from tests.support.airflow_connections import lead_to

    lead_to(monkeypatch, migrated_url, s3, bucket, tmp_path / "training")


@pytest.fixture
def worker_api_url(airflow_connections: None, open_api: str) -> str:
    """Return the URL of `open_api`, for tests that also run a worker's code, with `airflow_connections`."""
    return open_api


@pytest.fixture(scope="session")
def s3(stack: Stack) -> S3:
    """Start the S3 server of this test session; return it once it can store objects."""
    from tests.support.first_write import wait_until_storing

    stack.s3.start()
    wait_until_storing(stack.s3)
    return stack.s3


@pytest.fixture(scope="session")
def published() -> Iterator[Release]:
    """Yield a server that replaces Ultralytics' release address; it serves only files that a test adds."""
    with serving_releases() as release:
        yield release


@pytest.fixture(scope="session")
def airflow_stack(
    stack: Stack, postgres: Postgres, s3: S3, published: Release, pytestconfig: pytest.Config
) -> Stack:
    """Return the whole stack: Airflow with the repository's Dags, LocalExecutor, pool and connections.

    The training database is empty; run the Dag `migrate_schema` before anything else.
    """
    start_airflow(stack, published)
    pytestconfig.stash[AIRFLOW] = stack
    return stack


@pytest.fixture(scope="session")
def api(airflow_stack: Stack) -> Airflow:
    """Return a client of Airflow's own REST API, after creating the tables of the training database."""
    from tests.support.airflow_client import Airflow

    client = Airflow(airflow_stack)
    client.run("migrate_schema", {})
    return client


@pytest.fixture(scope="session")
def api_stack(
    stack: Stack, postgres: Postgres, s3: S3, published: Release, pytestconfig: pytest.Config
) -> Stack:
    """Return the stack without Airflow's scheduling processes, for tests of the API and of the pages."""
    alone = ApiStack(stack.state, stack.postgres_settings, stack.buckets)
    start_airflow(alone, published)
    pytestconfig.stash[AIRFLOW] = stack
    return alone


@pytest.fixture(scope="session")
def s3_client(s3: S3) -> S3Client:
    """Return a boto3 client of the session's S3 server."""
    return s3.client()


@pytest.fixture(scope="session")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """Yield the MLflow server of this test session."""
    server = MlflowServer(tmp_path_factory.mktemp("mlflow"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def bucket(s3_client: S3Client) -> Iterator[str]:
    """Yield the name of a fresh bucket; remove the bucket and its objects after the test."""
    name = f"test-{secrets.token_hex(6)}"
    s3_client.create_bucket(Bucket=name)
    yield name
    s3_client.delete_bucket(Bucket=name)  # SeaweedFS removes its objects, too


@pytest.fixture
def reread_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the pauses before a damaged object is read again, for objects that stay damaged."""
    for module in ("download", "reading"):
        monkeypatch.setattr(f"include.s3.{module}.REREAD_SECONDS", (0.0, 0.0))
