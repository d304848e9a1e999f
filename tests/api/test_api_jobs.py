"""Training jobs over REST: the list, one job, its epochs and its lineage, on the real API server."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import psycopg
import pytest

from include.api.app import PREFIX
from include.deployment.settings import DEFAULT_BUCKET
from include.jobs.repository import JobRepository
from include.stack.local import Stack
from tests.support.jobs import claim, epoch_report

pytestmark = pytest.mark.timeout(600)

RUN = "manual__2026-05-06T07:08:09+00:00"
PLACE = f"s3://{DEFAULT_BUCKET}/checkpoints"


@pytest.fixture(autouse=True, scope="module")
def jobs(api_stack_connection: psycopg.Connection[Any]) -> Iterator[JobRepository]:
    """Job rest-a is completed, rest-b continues it and is running; a host application wrote two rest-c."""
    jobs = JobRepository(api_stack_connection)
    given: dict[str, Any] = {"task": "detect", "model": "yolo11n", "dataset": "rest-digits", "lr0": 0.01}
    claim(jobs, "rest-a", RUN, spec=given)
    jobs.leave_queue("rest-a", RUN, 1)
    jobs.start_training("rest-a", RUN, 1, first_epoch=0)
    for epoch in range(3):
        jobs.record_epoch("rest-a", RUN, 1, epoch_report(epoch, loss=epoch / 2))
        jobs.record_durable("rest-a", RUN, 1, epoch)
    api_stack_connection.execute(
        "UPDATE training_jobs SET status = 'completed', completed_at = started_at + interval '90 s', "
        f"best_checkpoint_path = '{PLACE}/rest-a/best.pt', last_checkpoint_path = '{PLACE}/rest-a/last.pt', "
        "created_at = '2026-01-01', metrics = '{\"metrics/mAP50(B)\": 0.5}' WHERE job_id = 'rest-a'"
    )
    api_stack_connection.execute(
        "UPDATE gpu_usage SET seen_at = started_at + interval '80 s' WHERE job_id = 'rest-a'"
    )
    claim(jobs, "rest-b", "run/b", spec=given | {"model": "yolo11s"}, parent_job_id="rest-a", resumed_epoch=2)
    jobs.copy_epochs("rest-a", "rest-b", 2)
    jobs.leave_queue("rest-b", "run/b", 1)
    jobs.start_training("rest-b", "run/b", 1, first_epoch=3)
    jobs.record_epoch("rest-b", "run/b", 1, epoch_report(3))
    api_stack_connection.execute("UPDATE training_jobs SET created_at = '2026-01-02' WHERE job_id = 'rest-b'")
    api_stack_connection.execute(
        "INSERT INTO training_jobs (job_id, created_at) VALUES ('rest-c d/é', '2026-01-03'), "
        "('rest-c d', '2026-01-03')"
    )
    yield jobs
    for table in ("training_jobs", "training_epochs", "gpu_usage"):
        api_stack_connection.execute(f"DELETE FROM {table} WHERE job_id LIKE 'rest-%'")


def listed(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [each["job_id"] for each in answer.json()["jobs"]]


def test_a_job_is_shown_as_it_is_recorded(ask: Any, jobs: JobRepository) -> None:
    shown = ask("/jobs/rest-a").json()
    row = jobs.get("rest-a")
    assert row is not None
    assert {name: shown[name] for name in type(row).model_fields} == row.model_dump(mode="json")
    assert (shown["task"], shown["model"], shown["dataset"]) == ("detect", "yolo11n", "rest-digits")
    assert shown["duration_seconds"] == 80
    assert shown["fitness_curve"] == [0.5, 0.5, 0.5]
    assert shown["lineage"] == {"parent_job_id": None, "resumed_epoch": None, "children": ["rest-b"]}


def test_progress_counts_epochs_and_a_running_job_also_has_the_time_left(ask: Any) -> None:
    done, runs, waits = (ask(f"/jobs/{each}").json()["progress"] for each in ("rest-a", "rest-b", "rest-c d"))
    counts = ("finished_epochs", "epochs", "durable_epochs", "eta_seconds", "epoch_seconds")
    assert [done[name] for name in counts] == [3, 3, 3, None, 1.5]
    assert [runs[name] for name in counts] == [4, 3, 0, 3.0, 1.5]
    assert [waits[name] for name in counts] == [0, None, 0, None, None]
    assert datetime.fromisoformat(runs["recorded_at"]).tzinfo is not None


def test_the_progress_of_a_resumed_job_includes_the_epochs_of_its_parent(
    ask: Any, jobs: JobRepository, api_stack_connection: psycopg.Connection[Any]
) -> None:
    claim(jobs, "rest-e", "run/e", epochs=9, parent_job_id="rest-a", resumed_epoch=2)
    progress = ask("/jobs/rest-e").json()["progress"]
    api_stack_connection.execute("DELETE FROM training_jobs WHERE job_id = 'rest-e'")
    assert (progress["finished_epochs"], progress["epochs"]) == (3, 9)


def test_links_are_absolute_and_work(ask: Any, api_stack: Stack) -> None:
    links = ask("/jobs/rest-a").json()["links"]
    api, run = f"{api_stack.url}{PREFIX}", "manual__2026-05-06T07%3A08%3A09%2B00%3A00"
    assert links == {
        "self": f"{api}/jobs/rest-a",
        "epochs": f"{api}/jobs/rest-a/epochs",
        "events": f"{api}/jobs/rest-a/events",
        "lineage": f"{api}/jobs/rest-a/lineage",
        "pictures": f"{api}/jobs/rest-a/pictures",
        "dataset_report": None,
        "best_checkpoint": f"{api}/jobs/rest-a/checkpoints/best",
        "last_checkpoint": f"{api}/jobs/rest-a/checkpoints/last",
        "airflow_run": f"{api_stack.url}/dags/train_yolo/runs/{run}",
        "airflow_run_api": f"{api_stack.url}/api/v2/dags/train_yolo/dagRuns/{run}",
    }
    for name in ("epochs", "lineage"):
        assert ask(links[name].removeprefix(api)).status_code == 200


def test_there_is_no_link_to_a_missing_file_or_run(
    ask: Any, api_stack_connection: psycopg.Connection[Any]
) -> None:
    links = ask("/jobs/rest-c d").json()["links"]
    assert [name for name, link in links.items() if link is None] == [
        "dataset_report", "best_checkpoint", "last_checkpoint", "airflow_run", "airflow_run_api"
    ]  # fmt: skip
    api_stack_connection.execute(
        "UPDATE training_jobs SET best_checkpoint_path = 's3://elsewhere/best.pt' WHERE job_id = 'rest-c d'"
    )
    assert ask("/jobs/rest-c d").json()["links"]["best_checkpoint"] is None


def test_an_id_with_special_characters_is_found_in_its_encoded_form(ask: Any) -> None:
    shown = ask("/jobs/rest-c%20d").json()
    assert (shown["job_id"], shown["spec"], shown["status"]) == ("rest-c d", None, "queued")
    assert shown["links"]["self"].endswith("/jobs/rest-c%20d")
    slashed = ask("/jobs", prefix="rest-c d/").json()["jobs"][0]
    assert slashed["links"]["self"].endswith("/jobs/rest-c%20d%2F%C3%A9")


def test_the_newest_job_comes_first(ask: Any) -> None:
    assert listed(ask("/jobs", prefix="rest-")) == ["rest-c d/é", "rest-c d", "rest-b", "rest-a"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"status": "completed", "prefix": "rest-"}, ["rest-a"]),
        ({"dataset": "rest-digits"}, ["rest-b", "rest-a"]),
        ({"dataset": "rest-digits", "model": "yolo11s"}, ["rest-b"]),
        ({"dag_id": "train_yolo", "run_id": RUN}, ["rest-a"]),
        ({"prefix": "rest-_"}, []),
    ],
)
def test_a_listed_job_matches_all_filters(ask: Any, query: dict[str, str], found: list[str]) -> None:
    answer = ask("/jobs", **query)
    assert listed(answer) == found
    assert (answer.json()["total"], answer.json()["total_is_estimate"]) == (len(found), False)


def test_pages_follow_each_other(ask: Any) -> None:
    seen, cursor = [], None
    while True:
        answer = ask("/jobs", prefix="rest-", limit=1, **({"cursor": cursor} if cursor else {}))
        seen.append(listed(answer))
        assert answer.json()["total"] == 4
        cursor = answer.json()["next"]
        if cursor is None:
            break
    assert seen == [["rest-c d/é"], ["rest-c d"], ["rest-b"], ["rest-a"]]


def test_epochs_are_listed_in_pages(ask: Any, jobs: JobRepository) -> None:
    first = ask("/jobs/rest-b/epochs", limit=3).json()
    assert [epoch["epoch"] for epoch in first["epochs"]] == [0, 1, 2]
    assert first["epochs"] == [epoch.model_dump(mode="json") for epoch in jobs.list_epochs("rest-b")[:3]]
    rest = ask("/jobs/rest-b/epochs", limit=3, after=first["next"]).json()
    assert ([epoch["epoch"] for epoch in rest["epochs"]], rest["next"]) == ([3], None)


def test_a_lineage_has_ancestors_and_descendants(ask: Any) -> None:
    lineage = ask("/jobs/rest-b/lineage").json()
    assert lineage == ask("/jobs/rest-a/lineage").json()
    assert [job["job_id"] for job in lineage["jobs"]] == ["rest-a", "rest-b"]
    assert lineage["truncated"] is False
    assert lineage["jobs"][0] == {
        "job_id": "rest-a", "parent_job_id": None, "resumed_epoch": None, "fine_tuned": False,
        "status": "completed", "epoch": 2, "epochs": 3, "model": "yolo11n", "dataset": "rest-digits",
        "metrics": {"metrics/mAP50(B)": 0.5}, "created_at": "2026-01-01T00:00:00Z",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("path", "query", "status", "message"),
    [
        ("/jobs/nobody", {}, 404, "job_id='nobody' does not exist"),
        ("/jobs/nobody/epochs", {}, 404, "job_id='nobody' does not exist"),
        ("/jobs/nobody/lineage", {}, 404, "job_id='nobody' does not exist"),
        ("/jobs", {"status": "best"}, 422, "status='best' is refused"),
        ("/jobs", {"limit": 201}, 422, "limit='201' is refused"),
        ("/jobs", {"state": "failed"}, 422, "Unknown parameter state"),
        ("/jobs", {"cursor": "nonsense"}, 422, "was not issued by this API"),
        ("/jobs", {"prefix": "x" * 251}, 422, "is refused: string should have at most 250 characters"),
        ("/jobs", {"dataset": "a\0b"}, 422, "is refused"),
        ("/jobs/rest-a/epochs", {"after": 2**31}, 422, "after='2147483648' is refused"),
        ("/jobs/rest-a/epochs", {"limit": 5001}, 422, "limit='5001' is refused"),
        ("/jobs/rest-a/epochs", {"from": 1}, 422, "Unknown parameter from"),
    ],
)
def test_an_invalid_request_is_refused_with_one_sentence(
    ask: Any, path: str, query: dict[str, Any], status: int, message: str
) -> None:
    answer = ask(path, **query)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert message in answer.json()["detail"]


@pytest.mark.parametrize("spec", ["[1]", '{"deep": ' * 300 + "1" + "}" * 300])
def test_a_row_that_json_cannot_express_does_not_hide_the_others(
    ask: Any, api_stack_connection: psycopg.Connection[Any], spec: str
) -> None:
    api_stack_connection.execute(
        "UPDATE training_jobs SET started_at = 'infinity', metrics = '{\"large\": 1e999}', spec = %s "
        "WHERE job_id = 'rest-c d'",
        [spec],
    )
    assert len(listed(ask("/jobs", prefix="rest-"))) == 4
    shown = ask("/jobs/rest-c d").json()
    assert (shown["started_at"], shown["metrics"], shown["spec"]) == (None, {"large": None}, None)
