"""Recorded objects that S3 has lost: all damage is found, and repaired if an intact copy exists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
import psycopg
import pytest

from include.audit.audit import RandomSample
from include.audit.findings import FindingKind
from include.audit.recorded import RecordedObject
from include.models.promotion import promote, register_copy
from include.models.repository import ModelRepository
from include.models.request import ChosenVersion
from include.models.version import ModelVersion
from include.s3.bucket import Bucket
from include.s3.client import build_client_config
from tests.support.auditing import BEST, LAST, World
from tests.support.cutting_proxy import CuttingProxy
from tests.support.dataset_steps import arguments
from tests.support.model_keys import new_key, trusting
from tests.support.model_versions import promote_over_present, tamper
from tests.support.stored_objects import replace

if TYPE_CHECKING:
    from include.stack.s3 import S3


@pytest.fixture
def model_version(world: World) -> ModelVersion:
    """Version 1 of model digits, in production, from job a."""
    world.job("a")
    register_copy(
        world.connection, Bucket(world.client, world.bucket), "digits", job_id="a", run_id="retraining"
    )
    return promote(
        world.connection,
        Bucket(world.client, world.bucket),
        ChosenVersion(name="digits", version=1, expected=None, reason="better"),
        by="ada",
    )


def production(world: World) -> str:
    return f"s3://{world.bucket}/models/digits/production/best.pt"


def test_nothing_is_found_where_all_objects_match_their_rows(
    world: World, model_version: ModelVersion
) -> None:
    report = world.audit(full=True)
    assert world.findings() == []
    assert report.failure is None
    assert (report.objects, report.checked, report.reread) == (5, 4, 4)
    assert "4 recorded objects checked, 4 of them read again" in report.sentence
    assert "Found: nothing." in report.sentence


@pytest.mark.parametrize("name", ["best.pt", "last.pt"])
def test_a_missing_object_is_found(world: World, name: str) -> None:
    world.job("a")
    world.remove(world.uri("a", name))
    report = world.audit()
    found = world.finding()
    assert (found["finding"], found["job_id"], found["path"]) == ("missing", "a", world.uri("a", name))
    assert (found["size"], found["repair"]) == (len(BEST) if name == "best.pt" else len(LAST), None)
    assert report.failure is not None
    assert f"1 object that a row names is missing or damaged, and not repaired: {found['path']}" in (
        report.failure
    )
    assert f"names {found['path']}, but there is no such object" in report.to_markdown()


def test_a_truncated_object_is_found_by_its_size(world: World) -> None:
    world.job("a")
    uri = world.uri("a", "last.pt")
    replace(world.client, uri, LAST[:-1], world.metadata(uri))
    world.audit(sample=0)
    assert world.finding()["finding"] == "damaged"
    assert f"has {len(LAST) - 1} bytes instead of {len(LAST)}" in world.finding()["detail"]


def test_another_file_of_the_same_size_is_found_from_its_metadata(world: World) -> None:
    world.job("a")
    world.put(world.uri("a", "best.pt"), bytes(len(BEST)))
    world.audit(sample=0)
    assert "is a different file: its SHA-256 is" in world.finding()["detail"]


def test_an_object_that_somebody_else_wrote_is_found(world: World) -> None:
    world.job("a")
    replace(world.client, world.uri("a", "best.pt"), BEST, {})
    world.audit(sample=0)
    assert "carries no checksum" in world.finding()["detail"]


def test_a_flipped_byte_is_found_by_reading_and_by_nothing_else(world: World) -> None:
    world.job("a")
    world.damage(world.uri("a", "last.pt"))
    assert world.audit(sample=0).failure is None
    assert world.audit(sample=2).lost == 1
    assert f"its {len(LAST)} bytes have SHA-256" in world.finding()["detail"]
    assert world.audit(full=True).lost == 1


def test_an_object_that_cannot_be_read_is_found_although_the_server_answers(world: World, s3: S3) -> None:
    large = bytes(300_000)
    world.job("a")
    whole = world.put(world.uri("a", "last.pt"), large)
    world.change("a", last_checkpoint_sha256=whole.sha256, last_checkpoint_size=whole.size)
    with CuttingProxy(s3.endpoint_url, received=150_000) as proxy:
        world.client = boto3.client(
            "s3", **arguments(s3, endpoint_url=proxy.endpoint_url), config=build_client_config()
        )
        world.audit(full=True)
    assert world.finding()["path"] == world.uri("a", "last.pt")
    assert "cannot be read" in world.finding()["detail"]


def test_an_object_in_a_deleted_bucket_is_missing(world: World) -> None:
    world.job("a")
    world.change("a", best_checkpoint_path="s3://no-such-bucket/checkpoints/a/best.pt")
    world.audit()
    assert "Bucket 'no-such-bucket' does not exist" in world.finding()["detail"]


@pytest.mark.parametrize("repair", [False, True])
@pytest.mark.parametrize("name", ["best.pt", "last.pt"])
@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("s3://no-such-bucket/checkpoints/a", "Bucket 'no-such-bucket' does not exist"),
        ("/data/a", "is not the address of an object"),
    ],
    ids=["a lost bucket", "a local path"],
)
def test_a_path_at_which_no_object_can_exist_does_not_abort_the_audit(
    world: World, folder: str, message: str, name: str, repair: bool
) -> None:
    for job_id in ("a", "b", "c"):  # they have the same bytes, so each is a copy of the others
        world.job(job_id)
    kind = name.removesuffix(".pt")
    world.change("a", **{f"{kind}_checkpoint_path": f"{folder}/{name}"})
    world.remove(world.uri("b", "best.pt"))
    world.audit(repair=repair)
    first, second = world.findings()
    assert (first["finding"], first["path"], first["repair"]) == ("missing", f"{folder}/{name}", None)
    assert message in first["detail"]
    assert second["path"] == world.uri("b", "best.pt")
    assert (second["repair"] is not None) is repair


def test_objects_that_only_a_host_application_recorded_are_kept(world: World) -> None:
    world.row("7", run_id=None, best_checkpoint_path="s3://models/job 7")
    assert world.audit().checked == 0
    assert world.findings() == []


def test_a_lost_last_pt_is_reported_with_its_previous_generation(world: World) -> None:
    world.job("a")
    world.remove(world.uri("a", "last.pt"))
    world.audit()
    detail = world.finding()["detail"]
    previous = world.uri("a", "last.previous.pt")
    assert f"The previous generation, {previous}, holds the state after epoch 4" in detail
    assert world.names("a") == {"best.pt", "last.previous.pt"}


@pytest.mark.parametrize("harm", ["remove", "damage"])
def test_a_last_pt_is_restored_from_a_previous_generation_with_the_same_bytes(
    world: World, harm: str
) -> None:
    world.job("a", previous=LAST)
    uri = world.uri("a", "last.pt")
    getattr(world, harm)(uri)
    report = world.audit(full=True)
    found = world.finding()
    source = world.uri("a", "last.previous.pt")
    assert found["repair"] == f"restored from {source}, and verified by reading it back"
    assert world.body(uri) == LAST
    assert world.metadata(uri)["job-id"] == "a"
    assert report.failure is None
    assert world.audit(full=True).sentence.endswith("Found: nothing.")


@pytest.mark.parametrize("harm", ["remove", "damage"])
def test_the_state_of_a_run_that_starts_during_the_repair_is_kept(
    world: World, migrated_url: str, harm: str
) -> None:
    world.job("a", previous=LAST)
    uri = world.uri("a", "last.pt")
    getattr(world, harm)(uri)

    def take_over(params: dict[str, Any], **_: object) -> None:
        """Start the job again while the audit reads the copy from which it will restore the state."""
        if not params["Key"].endswith("/last.previous.pt"):
            return
        with psycopg.connect(migrated_url, autocommit=True) as other:
            other.execute(
                "UPDATE training_jobs SET status = 'running', run_id = 'another', "
                "last_checkpoint_path = NULL, last_checkpoint_sha256 = NULL"
            )
        world.put(uri, b"the state of the new run")

    event = "provide-client-params.s3.GetObject"
    world.client.meta.events.register(event, take_over)
    try:
        world.audit(full=True)
    finally:
        world.client.meta.events.unregister(event, take_over)
    assert world.body(uri) == b"the state of the new run"


@pytest.mark.parametrize("harm", ["remove", "damage"])
@pytest.mark.parametrize("which", ["job", "version", "production"])
def test_a_best_pt_is_restored_from_its_copy_with_its_metadata(
    world: World, model_version: ModelVersion, which: str, harm: str
) -> None:
    uri = {"job": world.uri("a", "best.pt"), "version": model_version.path, "production": production(world)}[
        which
    ]
    before = world.metadata(uri)
    getattr(world, harm)(uri)
    report = world.audit(full=True)
    assert world.finding()["repair"].startswith("restored from ")
    assert (world.body(uri), world.metadata(uri)) == (BEST, before)
    assert report.failure is None


@pytest.mark.parametrize("harm", ["remove", "damage"])
def test_a_best_pt_that_is_restored_from_another_job_still_belongs_to_its_own(
    world: World, harm: str
) -> None:
    """A job that continued another one without improving has the same best.pt."""
    world.job("parent", status="stopped")
    world.job("child", parent_job_id="parent")
    uri = world.uri("parent", "best.pt")
    before = world.metadata(uri)
    copy = world.uri("child", "best.pt")
    replace(world.client, copy, BEST, world.metadata(copy) | {"seeded-from": "parent"})
    getattr(world, harm)(uri)
    world.audit(full=True)
    assert world.finding()["repair"] == f"restored from {copy}, and verified by reading it back"
    assert (world.body(uri), world.metadata(uri)) == (BEST, before)


@pytest.mark.parametrize("harm", ["remove", "damage"])
def test_a_signature_is_restored_from_its_copy_and_is_not_an_orphan(
    world: World, model_version: ModelVersion, harm: str
) -> None:
    key = new_key()
    world.signing = trusting(key, signs_with=key)
    bucket = Bucket(world.client, world.bucket)
    promote_over_present(
        world.connection, bucket, "digits", 1, by="ada", reason=None, force=True, signing=world.signing
    )
    assert world.audit(full=True).sentence.endswith("Found: nothing.")
    for uri in (model_version.signature_path, f"{production(world)}.sig"):
        before = world.body(uri), world.metadata(uri)
        getattr(world, harm)(uri)
        world.audit(full=True)
        assert world.finding()["path"] == uri
        assert world.finding()["repair"].startswith("restored from ")
        assert (world.body(uri), world.metadata(uri)) == before


def test_production_is_not_repaired_with_a_file_that_was_not_signed(
    world: World, model_version: ModelVersion
) -> None:
    key = new_key()
    world.signing = trusting(key, signs_with=key)
    bucket = Bucket(world.client, world.bucket)
    promote_over_present(
        world.connection, bucket, "digits", 1, by="ada", reason=None, force=True, signing=world.signing
    )
    tamper(world.connection, world.client, model_version, BEST[:-1] + b"!")
    world.audit()
    found = world.finding()
    assert (found["finding"], found["path"], found["repair"]) == ("damaged", production(world), None)
    assert world.body(production(world)) == BEST


def test_another_file_in_production_is_replaced_by_the_promoted_one(
    world: World, model_version: ModelVersion
) -> None:
    world.put(production(world), b"put there by hand")
    world.audit()
    assert world.finding()["finding"] == "damaged"
    assert world.body(production(world)) == BEST
    assert world.metadata(production(world))["model-version"] == "1"


def test_a_promotion_that_is_about_to_be_recorded_is_not_a_finding(
    world: World, model_version: ModelVersion, migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The audit looks between the copy to the production key and the commit."""
    bucket = Bucket(world.client, world.bucket)
    world.job("b", previous=None)
    better = world.put(world.uri("b", "best.pt"), b"better", "b")
    world.change("b", best_checkpoint_sha256=better.sha256, best_checkpoint_size=better.size)
    register_copy(world.connection, bucket, "digits", job_id="b", run_id=None)
    with psycopg.connect(migrated_url) as other, other.transaction():
        promote_over_present(other, bucket, "digits", 2, by="ada", reason=None)
        monkeypatch.setattr("include.models.repository.time.sleep", lambda _: other.execute("COMMIT"))
        report = world.audit()
    assert (report.failure, world.findings()) == (None, [])
    assert world.body(production(world)) == b"better"


def test_production_is_not_repaired_while_somebody_promotes(
    world: World, model_version: ModelVersion, migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("include.models.repository.LONGEST_WAIT", 0)
    world.remove(production(world))
    with psycopg.connect(migrated_url) as other:
        ModelRepository(other).begin_promotion("digits", 1)
        assert world.audit().lost == 1
        other.rollback()
    assert world.finding()["repair"] is None
    assert world.audit().lost == 0


def test_nothing_is_restored_from_a_damaged_copy(world: World, model_version: ModelVersion) -> None:
    for uri in (world.uri("a", "best.pt"), model_version.path, production(world)):
        world.damage(uri)
    before = [world.body(uri) for uri in (world.uri("a", "best.pt"), model_version.path, production(world))]
    assert world.audit(full=True).lost == 3
    assert [found["repair"] for found in world.findings()] == [None, None, None]
    after = [world.body(uri) for uri in (world.uri("a", "best.pt"), model_version.path, production(world))]
    assert after == before


def test_without_repair_everything_is_found_and_nothing_is_changed(
    world: World, model_version: ModelVersion
) -> None:
    world.remove(production(world))
    assert world.audit(repair=False).lost == 1
    with pytest.raises(world.client.exceptions.ClientError):
        world.body(production(world))


def test_a_job_that_is_taken_over_during_the_audit_is_not_a_finding(world: World, migrated_url: str) -> None:
    """The new run is replacing the job's objects, and the row no longer names any of them."""
    world.job("a")
    world.remove(world.uri("a", "last.pt"))

    def take_over(**_: object) -> None:
        with psycopg.connect(migrated_url, autocommit=True) as other:
            other.execute(
                "UPDATE training_jobs SET status = 'running', best_checkpoint_path = NULL, "
                "best_checkpoint_sha256 = NULL, last_checkpoint_path = NULL, last_checkpoint_sha256 = NULL"
            )

    event = "before-call.s3.HeadObject"
    world.client.meta.events.register(event, take_over)
    try:
        report = world.audit()
    finally:
        world.client.meta.events.unregister(event, take_over)
    assert (report.checked, world.findings()) == (2, [])


def test_a_retried_run_records_each_finding_once(world: World) -> None:
    world.job("a")
    world.remove(world.uri("a", "best.pt"))
    world.audit(run_id="another")
    for _ in range(2):
        world.audit()
    assert len(world.findings()) == 1
    assert len(world.findings("another")) == 1


def test_findings_beyond_the_limit_of_their_kind_are_counted_and_not_recorded(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("include.audit.report.MOST_ROWS", 2)
    monkeypatch.setattr("include.audit.report.SHOWN", 1)
    for job_id in ("a", "b", "c"):
        world.job(job_id)
        world.remove(world.uri(job_id, "best.pt"))
    report = world.audit()
    assert report.found[FindingKind.MISSING] == 3
    assert len(world.findings()) == 2
    assert "… and 1 more in table checkpoint_audits, 1 not recorded" in report.to_markdown()


def _recorded(number: int) -> RecordedObject:
    return RecordedObject("best", f"s3://b/checkpoints/{number}/best.pt", "0" * 64, 1, str(number))


def _sampled(size: int, seed: str) -> list[str]:
    sample = RandomSample(size, seed)
    for number in range(20):
        sample.offer(_recorded(number))
    return [recorded.job_id for recorded in sample.objects]


@pytest.mark.parametrize(("size", "chosen"), [(0, 0), (5, 5), (100, 20)])
def test_a_sample_has_the_requested_size(size: int, chosen: int) -> None:
    assert len(set(_sampled(size, "run"))) == len(_sampled(size, "run")) == chosen


def test_every_object_is_sampled_about_equally_often() -> None:
    samples = [_sampled(5, f"run {day}") for day in range(400)]
    turns = [sum(str(number) in sample for sample in samples) for number in range(20)]
    assert all(60 < times < 140 for times in turns)
