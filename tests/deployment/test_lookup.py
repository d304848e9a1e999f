"""A connection counts as missing only if Airflow says that it does not exist, and never during an outage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.bases.secrets_backend import BaseSecretsBackend
from airflow.sdk.exceptions import AirflowNotFoundException, AirflowSkipException
from airflow.sdk.execution_time.supervisor import ensure_secrets_backend_loaded
from botocore.exceptions import ClientError

from include.deployment.backend import notify
from include.deployment.connections import create_s3_client, open_maintenance_bucket, prepare_training_db
from include.deployment.lookup import LookupFailed, look_up
from include.deployment.model_keys import load_signing
from include.deployment.retrying import is_transient
from include.deployment.settings import SettingRefused, Settings
from include.jobs.callback import TrainingCompletionCallback
from include.tasks.migrate_schema import _find_owner
from tests.support.http_server import Server
from tests.support.supervisor import ApiServer, supervised

SETTINGS = Settings("test", Path("/nonexistent"))
FINISHED = TrainingCompletionCallback(best_checkpoint_path="s3://b/best", last_checkpoint_path="s3://b/last")


@pytest.fixture
def api_server(monkeypatch: pytest.MonkeyPatch) -> ApiServer:
    monkeypatch.delenv("AIRFLOW_CONN_TRAINING_DB", raising=False)
    return ApiServer()


@pytest.fixture
def serving(api_server: ApiServer) -> Iterator[Server]:
    """Yield the HTTP server of the API server, to which this process's supervisor sends its requests."""
    with supervised(api_server) as serving:
        yield serving


def lose_database(api_server: ApiServer, _: Server) -> None:
    api_server.has_database = False


def fail(api_server: ApiServer, _: Server) -> None:
    api_server.status = 503


def stop(_: ApiServer, serving: Server) -> None:
    serving.shutdown()
    serving.server_close()


OUTAGES = [stop, fail, lose_database]
USES: dict[str, Callable[[], object]] = {
    "training_db": prepare_training_db,
    "training_s3": create_s3_client,
    "training_s3_maintenance": lambda: open_maintenance_bucket(SETTINGS),
    "training_backend": lambda: notify(FINISHED),
    "training_db_owner": _find_owner,
    "model_signing_key": lambda: load_signing(SETTINGS),
}


@pytest.mark.parametrize("connection_id", USES)
@pytest.mark.parametrize("outage", OUTAGES)
def test_an_outage_is_not_mistaken_for_a_missing_connection(
    outage: Callable[[ApiServer, Server], None],
    connection_id: str,
    api_server: ApiServer,
    serving: Server,
) -> None:
    outage(api_server, serving)
    with pytest.raises(LookupFailed, match=f"Connection {connection_id} could not be looked up") as failure:
        USES[connection_id]()
    assert is_transient(failure.value)


@pytest.mark.usefixtures("serving")
def test_a_missing_connection_is_reported_or_skipped() -> None:
    with pytest.raises(AirflowNotFoundException):
        prepare_training_db()
    with pytest.raises(SettingRefused, match="training_s3_maintenance does not exist"):
        open_maintenance_bucket(SETTINGS)
    with pytest.raises(AirflowSkipException, match="nothing to notify"):
        notify(FINISHED)
    assert _find_owner() == "training_db"
    assert load_signing(SETTINGS).key is None


@pytest.mark.usefixtures("serving")
def test_a_connection_stored_in_airflow_is_found(api_server: ApiServer) -> None:
    api_server.connections["training_db_owner"] = {"conn_type": "postgres", "host": "database"}
    assert look_up("training_db_owner").host == "database"
    assert _find_owner() == "training_db_owner"


def test_the_environment_comes_first_and_needs_no_api_server(
    api_server: ApiServer, serving: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop(api_server, serving)
    monkeypatch.setenv("AIRFLOW_CONN_TRAINING_DB_OWNER", "postgres://host/training")
    assert _find_owner() == "training_db_owner"


@pytest.mark.usefixtures("serving")
def test_a_connection_that_a_secrets_backend_may_not_read_counts_as_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class NarrowPolicy(BaseSecretsBackend):
        def get_connection(self, conn_id: str, team_name: str | None = None) -> Any:
            raise ClientError({"Error": {"Code": "AccessDeniedException"}}, "GetParameter")

    backends = ensure_secrets_backend_loaded()
    monkeypatch.setattr(
        "airflow.sdk.execution_time.supervisor.ensure_secrets_backend_loaded",
        lambda: [NarrowPolicy(), *backends],
    )
    with pytest.raises(AirflowNotFoundException):
        look_up("training_backend")


def test_without_a_supervisor_there_is_no_api_server_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("_AIRFLOW_PROCESS_CONTEXT", raising=False)
    with pytest.raises(AirflowNotFoundException):
        look_up("training_backend")


def test_the_api_server_itself_cannot_look_up_a_connection_without_its_database(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")  # this process has no tables of Airflow
    with pytest.raises(LookupFailed, match=r"training_backend could not be looked up \(MetastoreBackend\)"):
        look_up("training_backend")
