"""Data become dataset versions over REST or by a watch, or are refused: on the real scheduler."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from include.deployment.settings import DEFAULT_BUCKET
from tests.support.airflow_client import Airflow
from tests.support.api_client import ask, log_in_over_rest
from tests.support.dataset_steps import upload_files
from tests.support.tiny_datasets import build
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from include.stack.local import Stack

pytestmark = pytest.mark.timeout(600)

NAME = "registered-shapes"
PREFIX = "registering/shapes/"
SOURCE = f"s3://{DEFAULT_BUCKET}/{PREFIX}"


@pytest.fixture(autouse=True)
def watching(api: Airflow) -> Iterator[None]:
    api.pause("watch_dataset", paused=False)
    yield
    api.pause("watch_dataset", paused=True)


def test_data_are_registered_watched_compared_and_refused(
    api: Airflow, airflow_stack: Stack, tmp_path: Path
) -> None:
    build("detect", tmp_path / "data", train=3, val=2)
    client, login = airflow_stack.s3.client(), log_in_over_rest(airflow_stack)
    upload_files(client, DEFAULT_BUCKET, tmp_path / "data", PREFIX)

    def request(method: str, path: str, body: Any = None, **query: Any) -> dict[str, Any]:
        answer = ask(airflow_stack, method, f"/datasets/{NAME}{path}", login, body, **query)
        assert answer.ok, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def register() -> dict[str, Any]:
        run_id = request("POST", "/versions", {"source": SOURCE, "note": "by a test"})["run_id"]
        path, state = f"/registrations/{quote(run_id, safe='')}", {"state": ""}

        def has_ended() -> bool:
            state.update(request("GET", path))
            assert state["state"] in {"queued", "checking", "registered", "refused"}
            return state["state"] in {"registered", "refused"}

        until(has_ended, "the end of the registration")
        return state

    assert register() == {"state": "registered", "version": 1, "created": True, "error": None}
    version = request("GET", "/versions/1")
    assert (version["source"], version["created_by"]) == (SOURCE, airflow_stack.username)
    assert register() == {"state": "registered", "version": 1, "created": False, "error": None}

    for kind, suffix in (("images", "png"), ("labels", "txt")):
        client.upload_file(
            str(tmp_path / "data" / kind / "train" / f"0.{suffix}"),
            DEFAULT_BUCKET,
            f"{PREFIX}{kind}/train/new.{suffix}",
        )
    for _ in range(2):  # the second run finds nothing new
        api.run("watch_dataset", {"dataset": NAME})
        until(lambda: len(request("GET", "")["versions"]) == 2, "the version of the watched change")
    difference = request("GET", "/versions/2/difference", base=1)
    assert [image["name"] for image in difference["files"]["added"]["examples"]] == ["new.png"]
    assert len([run for run in api.runs("register_dataset") if run.startswith(f"watch__{NAME}__")]) == 1

    client.put_object(Bucket=DEFAULT_BUCKET, Key=f"{PREFIX}labels/train/0.txt", Body=b"9 0.5 0.5 0.1 0.1\n")
    refused = register()
    assert (refused["state"], refused["version"]) == ("refused", None)
    assert "labels/train/0.txt" in refused["error"]
