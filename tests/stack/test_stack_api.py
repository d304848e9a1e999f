"""The local stack's commands explain responses that do not come from the training API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from include.stack.airflow_api import AirflowApi
from include.stack.datasets import find_interrupted
from include.stack.errors import StackError
from tests.support.http_server import Handler, Server


@contextmanager
def serve(status: int, content: bytes) -> Iterator[AirflowApi]:
    """Yield a client of a server that accepts every login, and gives this response to every request."""

    class Airflow(Handler):
        def do_GET(self) -> None:
            self.respond(status, content)

        def do_POST(self) -> None:
            self.body()
            self.respond(201, b'{"access_token": "x"}')

    with Server(Airflow) as server:
        yield AirflowApi(server.url, "admin", "secret")


@pytest.mark.parametrize("status", [200, 500])
def test_an_answer_that_is_not_json_is_shown(status: int) -> None:
    with serve(status, b"Internal Server Error") as api:
        sentence = f"Airflow responded with HTTP {status} to GET jobs/a: Internal Server Error"
        with pytest.raises(StackError, match=sentence):
            api.call_training_api("GET", "jobs/a")


def test_the_sentence_of_a_problem_document_is_shown() -> None:
    problem = b'{"detail": "There is no job a."}'
    with serve(404, problem) as api, pytest.raises(StackError, match=r"^There is no job a\.$"):
        api.call_training_api("GET", "jobs/a")


def test_an_interrupted_upload_is_continued_unless_it_was_removed(tmp_path: Path) -> None:
    memory = tmp_path / "memory"
    assert find_interrupted(AirflowApi("http://127.0.0.1:9", "admin", "secret"), memory) is None
    memory.write_text("a")
    with serve(404, b'{"detail": "There is no upload a."}') as api:
        assert find_interrupted(api, memory) is None
    problem = b'{"detail": "S3 is not available."}'
    with serve(503, problem) as api, pytest.raises(StackError, match="S3 is not available"):
        find_interrupted(api, memory)
    with pytest.raises(StackError, match="is not responding"):
        find_interrupted(api, memory)


def test_a_token_that_has_expired_is_replaced() -> None:
    tokens = iter(["first", "second"])

    class Airflow(Handler):
        def do_GET(self) -> None:
            is_valid = self.headers["Authorization"] == "Bearer second"
            self.respond(200 if is_valid else 401, b'{"state": "running"}')

        def do_POST(self) -> None:
            self.body()
            self.respond(201, f'{{"access_token": "{next(tokens)}"}}'.encode())

    with Server(Airflow) as server:
        api = AirflowApi(server.url, "admin", "secret")
        assert api.get_run_state("train_yolo", "run") == "running"
        assert api.get_run_state("train_yolo", "run") == "running"
