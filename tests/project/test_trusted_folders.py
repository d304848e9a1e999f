"""Folders of a training run that another account could have prepared are refused."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from airflow.sdk.exceptions import AirflowFailException

from include.attempt.attempt import TrainingAttempt
from include.attempt.job_record import JobRecord
from include.claim.resolved_job import ResolvedJob
from include.datasets import digits
from include.datasets.check import inspect_dataset
from include.deployment.settings import Settings
from include.jobs.spec import TrainingSpec
from include.orchestration.failures import no_retry
from include.s3.bucket import Bucket
from include.tasks.train_yolo import train_job
from include.training.contract import MachineUnusable
from include.trusted_folders import UntrustedFolder, make_trusted_folder, require_trusted_folder
from tests.support.airflow_connections import context_of, lead_to
from tests.support.dataset_steps import materialize, unused_client
from tests.support.faults.task_process import Notes
from tests.support.jobs import resolved, started
from tests.support.stacks import reachable_directory
from tests.support.strangers import IS_ROOT, as_account, in_child

if TYPE_CHECKING:
    from include.jobs.repository import JobRepository
    from include.stack.s3 import S3

ROOT = Path(__file__).parents[2]
US, OUR_GROUP, SHARED = 12_345, 12_345, 23_456
SOMEBODY = 54_321

as_root = pytest.mark.skipif(not IS_ROOT, reason="only root can give a folder to another account")


@pytest.fixture
def directory() -> Iterator[Path]:
    """Yield a folder that every account can reach, but that only our account can write to."""
    with reachable_directory() as directory:
        yield directory


def made(folder: Path, mode: int, owner: int = -1, group: int = -1) -> Path:
    folder.mkdir()
    os.chown(folder, owner, group)
    folder.chmod(mode)
    return folder


def refusal(path: Path, look: Callable[[Path], object] = require_trusted_folder) -> str | None:
    """Return the message with which the folder is refused, or None if it is accepted."""
    try:
        look(path)
    except UntrustedFolder as error:
        return str(error)
    return None


def refusal_for_us(path: Path, group: int = OUR_GROUP) -> str | None:
    return as_account(US, group, [SHARED], lambda: refusal(path))


# --- the owner of the folder, and the accounts that may write to it ---


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o770, 0o2775])
def test_a_folder_of_our_own_is_accepted(directory: Path, mode: int) -> None:
    assert refusal(made(directory / "root", mode)) is None


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o702])
def test_a_folder_that_everybody_can_write_to_is_refused(directory: Path, mode: int) -> None:
    message = refusal(made(directory / "root", mode))
    assert message is not None
    assert f"Every account of this machine can write to {directory / 'root'} (owner " in message
    assert f"mode {mode:04o})" in message
    assert message.endswith("set TRAINING_ROOT to a folder of your own")


@as_root
@pytest.mark.parametrize(
    ("owner", "group", "mode"),
    [
        pytest.param(0, 0, 0o755, id="prepared by root"),
        pytest.param(0, SHARED, 0o2775, id="a Kubernetes volume with fsGroup"),
        pytest.param(US, 0, 0o775, id="the Compose volume"),
        pytest.param(US, SHARED, 0o2770, id="ours, shared with a group"),
    ],
)
def test_volumes_with_the_usual_owners_and_modes_are_accepted(
    directory: Path, owner: int, group: int, mode: int
) -> None:
    assert refusal_for_us(made(directory / "root", mode, owner, group)) is None


@as_root
def test_containers_with_varying_users_share_folders_through_group_0(directory: Path) -> None:
    volume = made(directory / "root", 0o775, SOMEBODY, 0)
    assert refusal_for_us(volume, group=0) is None
    assert refusal_for_us(volume, group=OUR_GROUP) is not None


@as_root
@pytest.mark.parametrize("mode", [0o700, 0o755, 0o2775])
def test_a_folder_of_another_account_is_refused(directory: Path, mode: int) -> None:
    root = made(directory / "root", mode, SOMEBODY, SHARED)
    assert refusal_for_us(root) == (
        f"{root} (owner uid {SOMEBODY}, mode {mode:04o}) belongs to another account, which could "
        "have put anything in it; remove it, or set TRAINING_ROOT to a folder of your own"
    )


@as_root
def test_root_also_refuses_the_folder_of_an_ordinary_account(directory: Path) -> None:
    assert refusal(made(directory / "root", 0o755, SOMEBODY, 0)) is not None


# --- the folders and links on the path ---


def test_a_folder_within_a_world_writable_folder_is_refused(directory: Path) -> None:
    made(directory / "open", 0o777)
    message = refusal(made(directory / "open" / "root", 0o700))
    assert message is not None
    assert f"{directory / 'open'} (owner " in message
    assert "mode 0777) is open to all and not sticky" in message


def test_our_folder_within_a_sticky_folder_is_accepted(directory: Path) -> None:
    made(directory / "tmp", 0o1777)
    assert refusal(made(directory / "tmp" / "root", 0o700)) is None


@as_root
def test_a_folder_below_another_accounts_folder_in_a_sticky_one_is_refused(directory: Path) -> None:
    made(directory / "tmp", 0o1777, 0, 0)
    made(directory / "tmp" / "trap", 0o755, SOMEBODY)
    message = refusal_for_us(made(directory / "tmp" / "trap" / "root", 0o700, US))
    assert message is not None
    assert "was created by another account in a folder open to all" in message


@as_root
def test_our_folder_in_the_home_of_another_account_is_accepted(directory: Path) -> None:
    made(directory / "home", 0o755, SOMEBODY)
    assert refusal_for_us(made(directory / "home" / "root", 0o700, US)) is None


@as_root
def test_another_accounts_link_in_a_sticky_folder_is_refused(directory: Path) -> None:
    made(directory / "tmp", 0o1777, 0, 0)
    made(directory / "ours", 0o700, US)
    (directory / "tmp" / "root").symlink_to(directory / "ours")
    os.chown(directory / "tmp" / "root", SOMEBODY, SOMEBODY, follow_symlinks=False)
    assert refusal_for_us(directory / "tmp" / "root") is not None
    os.chown(directory / "tmp" / "root", US, US, follow_symlinks=False)
    assert refusal_for_us(directory / "tmp" / "root") is None


def test_the_target_of_a_link_is_also_checked(directory: Path) -> None:
    made(directory / "open", 0o777)
    made(directory / "open" / "root", 0o700)
    (directory / "link").symlink_to("open/../open/root")
    assert refusal(directory / "link") is not None


def test_circular_and_dangling_links_are_refused_with_a_reason(directory: Path) -> None:
    (directory / "circle").symlink_to("circle")
    (directory / "gone").symlink_to("nothing")
    assert "contains a loop" in (refusal(directory / "circle", make_trusted_folder) or "")
    assert "No such file or directory" in (refusal(directory / "gone", make_trusted_folder) or "")


READ_ONLY = """
set -e
mount --bind "$1" "$1"
mount -o remount,bind,ro "$1"
exec "$2" -c 'import sys; from pathlib import Path; from include.trusted_folders import make_trusted_folder
make_trusted_folder(Path(sys.argv[1], "root"))' "$1"
"""


def test_a_read_only_file_system_is_refused_with_a_reason(directory: Path) -> None:
    namespaces = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*namespaces, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine allows no mounts in a user namespace")
    done = subprocess.run(
        [*namespaces, "sh", "-c", READ_ONLY, "sh", directory, sys.executable],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (
        f"UntrustedFolder: {directory}/root cannot be used: {directory}/root: Read-only file system"
        in done.stderr
    )


def test_a_file_in_place_of_the_folder_is_refused_with_a_reason(directory: Path) -> None:
    (directory / "root").write_text("")
    assert "is not a folder" in (refusal(directory / "root", make_trusted_folder) or "")


# --- creating the folder ---


def test_the_root_is_created_as_private_under_any_umask(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(directory / "tmp", 0o1777)
    monkeypatch.setenv("TRAINING_ROOT", str(directory / "tmp" / "training"))
    root = Settings.from_environment().training_root

    def create() -> None:
        os.umask(0)
        make_trusted_folder(root / ".datasets" / "fingerprint")

    in_child(create)
    for folder in (root, root / ".datasets", root / ".datasets" / "fingerprint"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@as_root
def test_folders_in_a_shared_volume_are_writable_by_its_group(directory: Path) -> None:
    made(directory / "root", 0o2775, 0, SHARED)

    def create() -> None:
        os.umask(0o002)
        make_trusted_folder(directory / "root" / "job")

    as_account(US, OUR_GROUP, [SHARED], create)
    made_there = (directory / "root" / "job").stat()
    assert (stat.S_IMODE(made_there.st_mode), made_there.st_gid) == (0o2770, SHARED)


# --- the functions that check the folders ---


def attempt(settings: Settings) -> object:
    spec = TrainingSpec(dataset="digits", model="yolo11n").with_defaults()
    job = ResolvedJob(job_id="a", dag_id="train_yolo", run_id="r", origin_run_id="r", spec=spec)

    def open_store() -> None:
        raise AssertionError("the attempt continued to its state in S3")

    return TrainingAttempt(job, digits.build_reference(), 1, settings, open_store).run()  # type: ignore[arg-type]


ENTRIES: dict[str, Callable[[Settings], object]] = {
    "check_dataset": lambda settings: inspect_dataset(
        "s3://bucket/data.zip", "detect", settings.dataset_cache, None
    ),
    "materialize": lambda settings: materialize(digits.build_reference(), settings.dataset_cache, None),
    "train": attempt,
}


CACHED = f".datasets/{digits.FINGERPRINT}"


@pytest.mark.parametrize(
    ("entry", "prepared"),
    [
        ("check_dataset", ""),
        ("check_dataset", ".datasets"),
        ("materialize", ""),
        ("materialize", ".datasets"),
        ("materialize", CACHED),
        ("materialize", f"{CACHED}/content"),
        ("train", ""),
        ("train", "a"),
        ("train", "a/runs/train"),
        ("train", CACHED),
    ],
)
def test_a_folder_that_others_could_have_prepared_causes_a_final_error(
    directory: Path, entry: str, prepared: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("include.attempt.attempt.prepare_training_db", lambda: None)
    monkeypatch.setattr(
        "include.attempt.attempt.open_bucket",
        lambda settings: Bucket(unused_client(), settings.bucket),
    )
    monkeypatch.setattr(JobRecord, "leave_queue", lambda *_: None)  # as if the job had its GPU
    settings = Settings("bucket", directory / "root", is_cpu_worker=True)
    folder = settings.training_root / prepared
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    with pytest.raises(AirflowFailException, match=f"can (write to|replace) {folder}"), no_retry():
        ENTRIES[entry](settings)


@pytest.mark.parametrize(("epochs", "error"), [(0, AirflowFailException), (1, MachineUnusable)])
@pytest.mark.parametrize(
    ("mode", "cache", "dataset", "sentence"),
    [
        (0o777, "", "digits", r"can replace .*/root"),
        (0o700, "", "/mnt/data.yaml", "local paths are switched off on machine"),
        (0o700, "half", "digits", "DATASET_CACHE_GB='half' is not a number"),
    ],
)
def test_a_machine_that_was_set_up_wrongly_does_not_end_a_training_run_that_has_a_state(
    mode: int,
    cache: str,
    dataset: str,
    sentence: str,
    epochs: int,
    error: type[Exception],
    directory: Path,
    jobs: JobRepository,
    migrated_url: str,
    s3: S3,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started(jobs, epochs=epochs)
    lead_to(monkeypatch, migrated_url, s3, "bucket", made(directory / "root", mode))
    monkeypatch.setenv("DATASET_ROOTS", "")
    monkeypatch.setenv("DATASET_CACHE_GB", cache)
    spec = TrainingSpec(dataset=dataset, model="yolo11n", device="cpu").with_defaults()
    job = resolved(spec)
    with pytest.raises(error, match=sentence):
        train_job(
            job,
            digits.build_reference().model_copy(update={"source": dataset}),
            context_of(
                {},
                ti=SimpleNamespace(task_id="train", try_number=1, max_tries=100),
                task=SimpleNamespace(retry_policy=None),
                task_state_store=Notes(directory / "notes.json"),
            ),
        )
