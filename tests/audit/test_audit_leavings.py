"""Leftovers of processes: orphans, rows that only seem to be running, uploads, files on a machine."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from include.audit.liveness import find_live
from include.jobs.repository import JobRepository
from tests.support.auditing import World
from tests.support.jobs import claim

NOW = timedelta(0)


def left(world: World, name: str, *, file: str = "runs/train/weights/last.pt") -> Path:
    """Leave a job's folder on this machine, and return its path."""
    folder = world.root / name
    path = folder / file
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x" * 100)
    (folder / "watchdog").mkdir(exist_ok=True)
    return folder


# --- orphans ---


def test_an_object_without_a_row_is_an_orphan_and_is_kept(world: World) -> None:
    world.job("a")
    world.put(world.uri("gone", "last.pt"), b"state")
    report = world.audit()
    found = world.finding()
    assert (found["finding"], found["job_id"], found["size"]) == ("orphan", "gone", 5)
    assert "there is no job 'gone' in training_jobs" in found["detail"]
    assert (report.objects, report.failure) == (4, None)
    assert world.body(world.uri("gone", "last.pt")) == b"state"


def test_an_object_that_no_training_run_writes_is_an_orphan(world: World) -> None:
    world.job("a")
    world.put(world.uri("a", "notes/me.txt"), b"notes")
    world.put(f"s3://{world.bucket}/checkpoints/readme.txt", b"read me")
    world.audit()
    assert [(found["job_id"], found["path"]) for found in world.findings()] == [
        ("a", world.uri("a", "notes/me.txt")),
        (None, f"s3://{world.bucket}/checkpoints/readme.txt"),
    ]


def test_a_report_of_a_job_without_a_row_is_an_orphan(world: World) -> None:
    world.job("a")
    reports = f"s3://{world.bucket}/reports"
    for key in ("a/dataset.json", "gone/dataset.json", "a/notes.txt"):
        world.put(f"{reports}/{key}", b"{}")
    world.audit()
    details = {found["path"]: found["detail"] for found in world.findings()}
    assert set(details) == {f"{reports}/gone/dataset.json", f"{reports}/a/notes.txt"}
    assert "there is no job 'gone' in training_jobs" in details[f"{reports}/gone/dataset.json"]


def test_a_picture_of_a_job_without_a_row_is_an_orphan(world: World) -> None:
    world.job("a")
    pictures = f"s3://{world.bucket}/pictures"
    for key in ("a/results.png", "gone/results.png", "results.png"):
        world.put(f"{pictures}/{key}", b"png")
    report = world.audit()
    assert [(found["path"], found["finding"], found["job_id"]) for found in world.findings()] == [
        (f"{pictures}/gone/results.png", "orphan", None),
        (f"{pictures}/results.png", "orphan", None),
    ]
    assert report.objects == 3 + 3


def test_pretrained_weights_are_counted_and_are_never_orphans(world: World) -> None:
    world.put(f"s3://{world.bucket}/pretrained/yolo26n.pt", b"weights")
    report = world.audit()
    assert (world.findings(), report.objects, report.bytes) == ([], 1, len(b"weights"))


def test_an_object_younger_than_an_hour_is_not_an_orphan_yet(world: World) -> None:
    world.put(world.uri("gone", "last.pt"), b"state")
    assert world.audit(later=NOW).objects == 1
    assert world.findings() == []


def test_model_files_that_no_version_names_are_orphans(world: World) -> None:
    for name in ("versions/1/best.pt", "production/best.pt"):
        world.put(f"s3://{world.bucket}/models/digits/{name}", b"model")
    world.audit()
    details = [found["detail"].partition("models/digits/")[2] for found in world.findings()]
    assert details == [
        "production/best.pt is an orphan: no version of that model is in production",
        "versions/1/best.pt is an orphan: no row of model_versions names it",
    ]


def test_objects_of_datasets_that_no_version_and_no_job_uses_are_orphans(world: World) -> None:
    bucket, used, gone = f"s3://{world.bucket}", "a" * 64, "b" * 64
    named = {"source": f"{bucket}/uploads/u1/data.zip", "origin": f"{bucket}/uploads/u2/x.ndjson"}
    with_version = (
        f"{named['source']}",
        f"{named['origin']}",
        f"{bucket}/datasets/{used}/data.yaml",
        *(f"{bucket}/datasets/{kind}/{used}-detect.json" for kind in ("manifests", "reports")),
        *(f"{bucket}/datasets/{kind}/{used}-detect/0.jpg" for kind in ("samples", "differences")),
    )
    with_job = (f"{bucket}/uploads/u3/data.zip", f"{bucket}/datasets/{'c' * 64}/data.yaml")
    without = (
        f"{bucket}/uploads/u11/data.zip",
        f"{bucket}/datasets/{gone}/data.yaml",
        f"{bucket}/datasets/manifests/{gone}-detect.jsonl.gz",
        f"{bucket}/datasets/samples/{used}-segment/0.jpg",
    )
    not_looked_at = (f"{bucket}/datasets/{gone}.jsonl.gz", f"{bucket}/datasets/jobs/gone.json")
    world.connection.execute(
        "INSERT INTO datasets "
        "(name, version, fingerprint, source, origin, task, train_images, val_images, size) "
        "VALUES ('parts', 1, %s, %s, %s, 'detect', 8, 2, 1)",
        [used, named["source"], named["origin"]],
    )
    world.row("a", status="failed", spec={"dataset": with_job[0]}, dataset_fingerprint="c" * 64)
    for uri in (*with_version, *with_job, *without, *not_looked_at):
        world.put(uri, b"x")
    world.audit(later=timedelta(hours=20))
    assert world.findings() == []  # the upload may be waiting for its check
    world.audit(later=timedelta(days=2))
    assert {found["path"] for found in world.findings()} == set(without)
    assert {found["finding"] for found in world.findings()} == {"orphan"}
    assert world.body(without[0]) == b"x"


# --- rows that only seem to be running ---


def test_a_running_row_without_a_live_run_is_recorded_as_failed(world: World) -> None:
    world.row("a", status="running", durable_epoch=6)
    world.audit()
    row = world.get("a")
    assert row["status"] == "failed"
    assert row["error"].startswith(
        "Run run of a ended without recording why, as happens when all its processes are killed; "
        "the job's state after epoch 7 is in S3"
    )
    assert world.finding()["finding"] == "stuck"
    assert world.finding()["repair"] == "recorded as failed"
    assert world.audit(run_id="tomorrow").sentence.endswith("Found: nothing.")


def test_a_running_row_is_kept_while_its_run_is_live(world: World) -> None:
    world.row("a", status="running")
    world.live = {("train_yolo", "run of a")}
    world.audit()
    assert (world.get("a")["status"], world.findings()) == ("running", [])


def test_a_running_row_that_has_just_changed_is_not_stuck_yet(world: World) -> None:
    world.row("a", status="running")
    world.audit(later=NOW)
    assert (world.get("a")["status"], world.findings()) == ("running", [])


def test_a_row_that_waits_for_its_first_run_is_not_stuck(world: World) -> None:
    world.row("a", status="queued", dag_id=None, run_id=None)
    world.audit()
    assert (world.get("a")["status"], world.findings()) == ("queued", [])


def test_a_row_of_a_run_of_another_application_is_not_stuck(world: World) -> None:
    world.row("a", status="running", dag_id="their_dag")  # perhaps in another Airflow
    world.audit()
    assert (world.get("a")["status"], world.findings()) == ("running", [])


def test_without_repair_a_stuck_row_is_unchanged(world: World) -> None:
    world.row("a", status="running")
    world.audit(repair=False)
    assert (world.get("a")["status"], world.finding()["repair"]) == ("running", None)


def test_one_query_per_fifty_runs_shows_that_none_is_live() -> None:
    query_sizes: list[int] = []

    def count(dag_id: str, run_ids: object) -> int:
        query_sizes.append(len(list(run_ids)))  # type: ignore[call-overload]
        return 0

    assert find_live([("dag", f"run {number}") for number in range(250)], count) == set()
    assert query_sizes == [50] * 5


@pytest.mark.parametrize("live", [{1}, {0, 99}, {3, 4, 50}, set(range(100))])
def test_live_runs_are_found_among_many(live: set[int]) -> None:
    going = {("dag", f"run {number:02}") for number in live} | {("other", "run 01")}
    runs = [(dag, f"run {number:02}") for number in range(100) for dag in ("dag", "other")]
    found = find_live(runs, lambda dag_id, run_ids: len({(dag_id, run) for run in run_ids} & going))
    assert found == going


# --- uploads that were never completed ---


def begin_upload(world: World, key: str) -> str:
    upload = world.client.create_multipart_upload(Bucket=world.bucket, Key=key)["UploadId"]
    world.client.upload_part(
        Bucket=world.bucket, Key=key, UploadId=upload, PartNumber=1, Body=bytes(5 * 1024**2)
    )
    return upload


def uploads(world: World) -> list[str]:
    listed = world.client.list_multipart_uploads(Bucket=world.bucket)
    return [upload["Key"] for upload in listed.get("Uploads", [])]


def test_an_upload_that_nobody_completed_is_aborted_after_a_day(world: World) -> None:
    keys = ("checkpoints/a/last.pt", "models/digits/versions/1/best.pt", "pretrained/yolo26n.pt")
    for key in (*keys, "elsewhere/large.bin"):
        begin_upload(world, key)
    world.audit(later=timedelta(hours=23))
    assert world.findings() == []
    world.audit()
    assert [(found["finding"], found["path"], found["repair"]) for found in world.findings()] == [
        ("abandoned_upload", f"s3://{world.bucket}/{key}", "aborted, and its parts removed") for key in keys
    ]
    assert uploads(world) == ["elsewhere/large.bin"]


def test_without_repair_an_abandoned_upload_is_kept(world: World) -> None:
    begin_upload(world, "checkpoints/a/last.pt")
    world.audit(repair=False)
    assert world.finding()["repair"] is None
    assert uploads(world) == ["checkpoints/a/last.pt"]


# --- files on this machine ---


@pytest.mark.parametrize("status", ["completed", "stopped"])
def test_the_folder_of_a_job_that_ended_well_is_removed(world: World, status: str) -> None:
    world.job("a", status=status)
    folder = left(world, "a")
    world.audit()
    found = world.finding()
    assert (found["finding"], found["path"], found["size"], found["repair"]) == (
        "leftover",
        str(folder),
        100,
        "removed",
    )
    assert not folder.exists()


def test_the_folder_of_an_expired_job_is_removed(world: World) -> None:
    world.job("a", last_checkpoint_expired_at="2026-01-02")
    world.change("a", last_checkpoint_path=None, last_checkpoint_sha256=None)
    folder = left(world, "a")
    world.audit()
    assert not folder.exists()


def test_the_folder_of_a_job_without_a_row_is_removed(world: World) -> None:
    folder = left(world, "gone")
    world.audit()
    assert (world.finding()["job_id"], folder.exists()) == (None, False)


@pytest.mark.parametrize("status", ["failed", "running"])
def test_the_folder_of_a_job_that_may_need_it_is_kept(world: World, status: str) -> None:
    world.job("a", status=status)
    world.live = {("train_yolo", "run of a")}
    folder = left(world, "a")
    world.audit()
    assert (folder.exists(), world.findings()) == (True, [])


def test_the_folder_of_a_job_with_keep_local_is_kept(world: World) -> None:
    world.job("a", spec={"keep_local": True})
    folder = left(world, "a")
    world.audit()
    assert (folder.exists(), world.findings()) == (True, [])


def test_a_folder_that_changed_within_a_day_stays(world: World) -> None:
    folder = left(world, "gone")
    world.audit(later=timedelta(hours=23))
    assert (folder.exists(), world.findings()) == (True, [])


@pytest.mark.parametrize(("harm", "finding"), [("remove", "missing"), ("damage", "damaged")])
def test_the_folder_of_a_job_whose_objects_are_lost_is_kept(world: World, harm: str, finding: str) -> None:
    """The folder may hold the last copy of the objects."""
    world.job("a")
    getattr(world, harm)(world.uri("a", "best.pt"))
    folder = left(world, "a")
    world.audit(full=True)
    assert folder.exists()
    assert world.finding()["finding"] == finding


def test_the_folder_of_a_job_that_is_resumed_while_its_objects_are_read_is_kept(
    world: World, migrated_url: str
) -> None:
    world.job("a", status="stopped")
    folder = left(world, "a")

    def resume(**_: object) -> None:
        with psycopg.connect(migrated_url) as other:
            if (job := JobRepository(other).get("a")) is not None and job.run_id != "another":
                claim(JobRepository(other), "a", "another", expected="run of a")

    event = "before-call.s3.GetObject"
    world.client.meta.events.register(event, resume)
    try:
        world.audit(sample=0)
    finally:
        world.client.meta.events.unregister(event, resume)
    assert (folder.exists(), world.findings()) == (True, [])


def test_a_folder_is_kept_if_an_object_turns_out_to_be_damaged_when_it_is_to_be_removed(world: World) -> None:
    world.job("a")
    world.damage(world.uri("a", "last.pt"))
    folder = left(world, "a")
    world.audit(sample=0)
    assert (folder.exists(), world.findings()) == (True, [])


def test_folders_that_belong_to_no_job_stay(world: World) -> None:
    others = [
        left(world, ".datasets"),
        left(world, "data", file="images/1.png"),
        left(world, "mixed"),
    ]
    (others[-1] / "mine.txt").touch()
    (world.root / "empty").mkdir()
    (world.root / "link").symlink_to(left(world, ".elsewhere"))
    world.audit()
    assert world.findings() == []
    assert all(folder.exists() for folder in [*others, world.root / "empty", world.root / "link"])


def test_a_folder_that_disappears_during_the_audit_is_not_a_finding(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = left(world, "gone")
    is_folder = Path.is_dir

    def remove_after(path: Path) -> bool:
        was_folder = is_folder(path)
        if path == folder:
            shutil.rmtree(folder)
        return was_folder

    monkeypatch.setattr(Path, "is_dir", remove_after)
    world.audit()
    assert (folder.exists(), world.findings()) == (False, [])


def test_nothing_is_removed_from_a_folder_that_others_can_write_to(world: World) -> None:
    folder = left(world, "gone")
    world.root.chmod(0o777)
    world.audit()
    assert (folder.exists(), world.findings()) == (True, [])


def test_without_repair_a_folder_is_kept(world: World) -> None:
    folder = left(world, "gone")
    world.audit(repair=False)
    assert (world.finding()["repair"], folder.exists()) == (None, True)
