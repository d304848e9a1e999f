"""The decisions of the tasks of retrain_yolo, on a real database and real objects."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import psycopg
import pytest
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from airflow.sdk.execution_time.context import OutletEventAccessors

from include.models.repository import ModelRepository
from include.models.version import ModelVersion, Stage
from include.orchestration.assets import PRODUCTION_MODEL, TRAINING_DATASET
from include.s3.bucket import Bucket
from include.tasks.retrain_payloads import Approval, Challenge, Evaluations, Retraining, Verdict
from include.tasks.retrain_yolo import judge, promote_challenger, resolve_plan
from include.training.evaluate import Evaluation
from tests.support.model_versions import promote_over_present, trained, version_of
from tests.support.retrain_plans import plan, written
from tests.support.retrainings import DATA, retraining
from tests.support.stored_objects import body

if TYPE_CHECKING:
    from pathlib import Path

    from mypy_boto3_s3 import S3Client


pytestmark = pytest.mark.usefixtures("airflow_connections")


def a_run(run_id: str = "manual__1", run_type: str = "manual", **conf: Any) -> SimpleNamespace:
    return SimpleNamespace(
        dag_id="retrain_yolo",
        run_id=run_id,
        run_type=run_type,
        run_after=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        triggering_user_name=None,
        conf=conf,
    )


def context(**given: Any) -> Context:
    """Return the context that Airflow gives a task."""
    known = {"run_id": "manual__1", "dag_run": a_run(), "outlet_events": OutletEventAccessors()}
    return cast("Context", known | given)


def test_both_evaluations_and_the_decision_are_recorded_with_the_version(
    connection: psycopg.Connection[Any], s3_client: S3Client, bucket: str, models: ModelRepository
) -> None:
    planned = plan(gate={"minimum_gain": 0.05}, approval=True)
    for number, reaches in enumerate((0.46, 0.44), 1):
        job_id = f"good-{number}"
        trained(connection, s3_client, bucket, job_id, f"weights {number}".encode())
        found = Evaluations(
            dataset="digits",
            dataset_fingerprint=DATA,
            challenger=Evaluation({"metrics/mAP50-95(B)": reaches, "fitness": None}, {"3": 0.5}),
            champion_version=7,
            champion=Evaluation({"metrics/mAP50-95(B)": 0.4}, {"3": 0.4}),
        )
        challenge = Challenge(
            job_id=job_id, run_id="r", conf={}, timeout_hours=1, parameters_fingerprint="p" * 64
        )
        judged = retraining(planned, job_id)
        given = (challenge, found)
        verdict = judge(judged, *given, context())
        assert judge(judged, *given, context()) == verdict  # a retry of the task
        assert (verdict.version, verdict.champion_version, verdict.ask) == (number, 7, True)
    better, worse = models.require("good", 1), models.require("good", 2)
    assert (better.stage, worse.stage) == (Stage.CANDIDATE, Stage.REJECTED)
    assert better.metrics == {"metrics/mAP50-95(B)": 0.46, "fitness": None, "classes/3": 0.5}
    assert better.champion_metrics == {"metrics/mAP50-95(B)": 0.4, "classes/3": 0.4}
    assert (better.run_id, better.dataset, better.dataset_fingerprint) == ("manual__1", "digits", DATA)
    assert (better.job_id, better.parameters_fingerprint) == ("good-1", "p" * 64)
    assert "went from 0.4000 to 0.4600 (+0.0600)" in (better.reason or "")
    assert "but the gate requires at least +0.0500" in (worse.reason or "")
    assert body(s3_client, better.path) == b"weights 1"


def test_a_remeasured_challenger_is_judged_again(
    connection: psycopg.Connection[Any], s3_client: S3Client, bucket: str, models: ModelRepository
) -> None:
    trained(connection, s3_client, bucket, "good-1", b"weights")
    challenge = Challenge(
        job_id="good-1", run_id="r", conf={}, timeout_hours=1, parameters_fingerprint="p" * 64
    )
    for champion_version, before in ((1, 0.5), (2, 0.3)):
        found = Evaluations(
            dataset="digits",
            dataset_fingerprint=DATA,
            challenger=Evaluation({"metrics/mAP50-95(B)": 0.4}, {}),
            champion_version=champion_version,
            champion=Evaluation({"metrics/mAP50-95(B)": before}, {}),
        )
        judged = retraining(plan())
        given = (challenge, found)
        verdict = judge(judged, *given, context())
        version = models.require("good", verdict.version)
        assert (verdict.version, version.champion_version) == (1, champion_version)
        assert version.champion_metrics == {"metrics/mAP50-95(B)": before}
        assert version.stage == (Stage.CANDIDATE if verdict.passed else Stage.REJECTED)
    assert verdict.passed
    assert "went from 0.3000 to 0.4000" in (version.reason or "")


@pytest.fixture
def candidate(connection: psycopg.Connection[Any], s3_client: S3Client, bucket: str) -> ModelVersion:
    """Version 2 of model digits, measured against version 1, which is in production."""
    first = version_of(connection, s3_client, bucket, b"one")
    promote_over_present(connection, Bucket(s3_client, bucket), first.name, 1, by="ada", reason="first")
    return version_of(connection, s3_client, bucket, b"two", champion_version=1)


def concluded(
    context: Context, *, passed: bool = True, ask: bool = False, answer: Approval | None = None
) -> ModelVersion:
    verdict = Verdict(name="digits", version=2, champion_version=1, passed=passed, reason="it rose", ask=ask)
    return promote_challenger(
        retraining(plan(name="digits", approval=ask)),
        verdict,
        answer,
        context,
    )


@pytest.mark.parametrize(
    ("ask", "answer", "by"), [(False, None, "ada"), (True, Approval(approved=True, by="grace"), "grace")]
)
def test_a_challenger_that_passed_is_promoted_and_announced(
    ask: bool,
    answer: Approval | None,
    by: str,
    candidate: ModelVersion,
    s3_client: S3Client,
    bucket: str,
    models: ModelRepository,
) -> None:
    given = context()
    promoted = concluded(given, ask=ask, answer=answer)
    assert (promoted.version, promoted.promoted_by, promoted.reason) == (2, by, "it rose")
    assert models.find_production("digits") == promoted
    assert models.require("digits", 1).stage == Stage.ARCHIVED
    assert body(s3_client, f"s3://{bucket}/models/digits/production/best.pt") == b"two"
    assert given["outlet_events"][PRODUCTION_MODEL].extra["path"] == candidate.path


@pytest.mark.parametrize(
    ("passed", "answer", "reason"),
    [
        (True, Approval(approved=False, by="grace"), "grace refused it, although the gate passed: it rose"),
        (True, Approval(approved=False, by=None), "nobody approved it, although the gate passed: it rose"),
        (True, None, "nobody approved it, although the gate passed: it rose"),
        (False, None, "it rose"),
    ],
)
def test_a_refused_challenger_is_skipped_and_nothing_is_announced(
    passed: bool,
    answer: Approval | None,
    reason: str,
    candidate: ModelVersion,
    models: ModelRepository,
) -> None:
    given = context()
    with pytest.raises(AirflowSkipException, match=f"Version 2 of model digits was refused: {reason}"):
        concluded(given, passed=passed, ask=True, answer=answer)
    assert not list(given["outlet_events"])
    present = models.find_production("digits")
    assert present is not None
    assert present.version == 1
    if passed:  # a version that the gate refuses is already rejected
        version = models.require("digits", 2)
        assert (version.stage, version.reason) == (Stage.REJECTED, reason)


def test_a_challenger_whose_champion_was_replaced_meanwhile_is_not_promoted(
    candidate: ModelVersion, connection: psycopg.Connection[Any], s3_client: S3Client, bucket: str
) -> None:
    third = version_of(connection, s3_client, bucket, b"three")
    promote_over_present(
        connection, Bucket(s3_client, bucket), "digits", third.version, by="ada", reason="quicker"
    )
    with pytest.raises(AirflowFailException, match="but version 3 is in production now"):
        concluded(context())


@pytest.fixture
def plans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, connection: psycopg.Connection[Any]) -> None:
    """Give the deployment its own plans."""
    plans = [{"name": "good", "dataset": "s3://b/mine"}, {"name": "bad", "dataset": "digits", "gate": 1}]
    monkeypatch.setenv("RETRAIN_PLANS", str(written(tmp_path, *plans)))


@pytest.mark.usefixtures("plans")
def test_a_run_follows_its_plan_and_always_gets_the_same_job_id() -> None:
    first = resolve_plan(context(dag_run=a_run(plan="good", parameters={"epochs": 2})), None)
    assert first.plan.parameters == {"epochs": 2}
    assert first.job_id.startswith("good-20260102-030405-")
    assert first == resolve_plan(context(dag_run=a_run(plan="good", parameters={"epochs": 2})), None)
    scheduled = resolve_plan(context(dag_run=a_run("scheduled__2")), "good")
    assert scheduled.plan.name == "good"
    assert scheduled.job_id != first.job_id


@pytest.mark.usefixtures("plans")
@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ({"plan": "bad"}, "plan 'bad': gate=1 is refused"),
        ({"plan": "none"}, "plan='none' is not in .* are: good"),
        ({"plan": "good", "epochs": 5}, "epochs is not a parameter of retrain_yolo"),
    ],
)
def test_a_run_with_an_invalid_request_fails_immediately(conf: dict[str, Any], message: str) -> None:
    with pytest.raises(AirflowFailException, match=message):
        resolve_plan(context(dag_run=a_run(**conf)), None)


class Events(list[SimpleNamespace]):
    """All events of an asset; `after` returns those since a time, as Airflow does."""

    def after(self, since: str) -> Events:
        return Events(event for event in self if event.timestamp >= datetime.fromisoformat(since))


def resolved(
    *extras: dict[str, str], passed: slice = slice(None), run_type: str = "asset_triggered"
) -> Retraining:
    """Resolve plan `good` in a run to which Airflow passed these of all events."""
    events = Events(
        SimpleNamespace(extra=extra, timestamp=datetime(2026, 1, 2, number, tzinfo=UTC))
        for number, extra in enumerate(extras)
    )
    given = {
        "dag_run": a_run(run_type=run_type),
        "triggering_asset_events": {TRAINING_DATASET: events[passed]},
        "inlet_events": {TRAINING_DATASET: events},
    }
    return resolve_plan(context(**given), "good")


MINE, OTHER = {"dataset": "s3://b/mine/"}, {"dataset": "s3://b/other/"}


@pytest.mark.usefixtures("plans")
def test_an_event_about_other_data_does_not_retrain_this_model() -> None:
    with pytest.raises(AirflowSkipException, match=r"The changed data are s3://b/other/; plan good trains"):
        resolved(OTHER)
    for extras in ((MINE,), (OTHER, {"dataset": "s3://b/mine"}), ({},), (OTHER, {})):
        assert resolved(*extras).plan.name == "good"
    assert resolved(OTHER, run_type="scheduled").plan.name == "good"


@pytest.mark.usefixtures("plans")
def test_an_event_counts_even_if_airflow_passes_only_the_first_of_several() -> None:
    assert resolved(OTHER, MINE, passed=slice(1)).plan.name == "good"
    with pytest.raises(AirflowSkipException, match=r"The changed data are s3://b/other/; plan good trains"):
        resolved(MINE, OTHER, OTHER, passed=slice(1, 2))  # an earlier run has retrained on the first event
