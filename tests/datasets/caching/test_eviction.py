"""The cache stays below its limit by evicting the least recently used datasets, but never one in use."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from include.datasets.caching.cache import DatasetCache
from include.datasets.caching.eviction import EvictionHangs, make_room, measure
from include.deployment.settings import SettingRefused, Settings

ROOT = Path(__file__).parents[3]
MIB = 1024**2


def fingerprint(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


class Machine:
    """A cache whose datasets have small files and were last used in the order in which they were added."""

    def __init__(self, folder: Path, limit: int = 100 * MIB) -> None:
        self.cache = DatasetCache.open(folder, limit)
        self._clock = time.time() - 1000

    def add(self, name: str, *files: str, size: int = MIB) -> Path:
        with self.cache.use(fingerprint(name)) as home:
            content = home / "content"
            content.mkdir(parents=True)
            for file in files or (name,):
                path, key = content / file, fingerprint(file)
                if not self.cache.files.link(key, size, str(path)):
                    path.write_bytes(bytes(size))
                    self.cache.files.keep(path, key)
        self._clock += 1
        os.utime(self.cache.locks / fingerprint(name), (self._clock, self._clock))
        return content

    def evict(self, limit: int, needed: int = 0) -> None:
        make_room(DatasetCache(self.cache.folder, limit), needed)

    def left(self) -> set[str]:
        return {path.name for path in self.cache.folder.glob("*/content/*")}

    def stored(self) -> int:
        return sum(1 for _ in self.cache.files.list_files())


@pytest.fixture
def evicting_machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "cache")


def test_the_least_recently_used_datasets_are_evicted_first_and_only_as_many_as_needed(
    evicting_machine: Machine,
) -> None:
    for name in ("old", "middle", "new"):
        evicting_machine.add(name)
    with evicting_machine.cache.use(fingerprint("old")):
        pass  # now this dataset is the most recently used one
    evicting_machine.evict(limit=4 * MIB)
    assert evicting_machine.left() == {"old", "middle", "new"}
    evicting_machine.evict(limit=4 * MIB, needed=MIB + MIB // 2)
    assert evicting_machine.left() == {"old", "new"}
    assert evicting_machine.stored() == 2
    assert measure(evicting_machine.cache) < 3 * MIB


def test_a_file_shared_by_two_datasets_counts_once_and_stays_until_both_are_evicted(
    evicting_machine: Machine,
) -> None:
    evicting_machine.add("first", "a", "b")
    content = evicting_machine.add("second", "b", "c")
    assert 3 * MIB <= measure(evicting_machine.cache) < 4 * MIB
    evicting_machine.evict(limit=3 * MIB)
    assert evicting_machine.left() == {"b", "c"}
    assert (content / "b").read_bytes() == bytes(MIB)
    assert evicting_machine.stored() == 2


def test_a_dataset_in_use_is_never_evicted_under_any_limit(
    evicting_machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    evicting_machine.add("used")
    evicting_machine.add("unused")
    with evicting_machine.cache.use(fingerprint("used")), evicting_machine.cache.use(fingerprint("used")):
        evicting_machine.evict(limit=1)
        assert evicting_machine.left() == {"used"}
        assert "exceeds its limit" in caplog.text
    evicting_machine.evict(limit=1)
    assert evicting_machine.left() == set()


def test_caches_in_a_view_count_towards_the_limit(evicting_machine: Machine) -> None:
    content = evicting_machine.add("views")
    (content.parent / "view-detect").mkdir()
    (content.parent / "view-detect" / "0.npy").write_bytes(bytes(5 * MIB))
    assert measure(evicting_machine.cache) >= 6 * MIB
    evicting_machine.evict(limit=2 * MIB)
    assert evicting_machine.left() == set()


def test_a_view_used_by_an_older_version_of_the_code_counts_as_in_use(evicting_machine: Machine) -> None:
    content = evicting_machine.add("views")
    with hold(content.parent / "view-detect.lock", "LOCK_EX") as process:
        evicting_machine.evict(limit=1)
        assert evicting_machine.left() == {"views"}
        process.communicate(b"end\n")
    evicting_machine.evict(limit=1)
    assert evicting_machine.left() == set()


def test_a_full_disk_also_limits_the_cache(
    evicting_machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    evicting_machine.add("old")
    disk = shutil.disk_usage(evicting_machine.cache.folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: disk._replace(free=MIB))
    evicting_machine.evict(limit=10**15, needed=MIB)
    assert evicting_machine.left() == {"old"}
    evicting_machine.evict(limit=10**15, needed=MIB + 1)
    assert evicting_machine.left() == set()


def test_the_default_limit_is_half_of_the_disk(
    evicting_machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    evicting_machine.add("old")
    disk = shutil.disk_usage(evicting_machine.cache.folder)
    for total, left in ((8 * MIB, {"old"}), (MIB, set())):
        small = disk._replace(total=total, used=total, free=0)
        monkeypatch.setattr(shutil, "disk_usage", lambda _, small=small: small)
        make_room(DatasetCache(evicting_machine.cache.folder))
        assert evicting_machine.left() == left


def hold(lock: Path, how: str) -> subprocess.Popen[bytes]:
    """Start a process that holds a lock until its input ends."""
    code = f"import fcntl; file = open({str(lock)!r}, 'w'); fcntl.flock(file, fcntl.{how})"
    waiting = f"{code}; print(1, flush=True); input()"
    process = subprocess.Popen([sys.executable, "-c", waiting], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def test_a_process_that_is_stopped_during_an_eviction_does_not_block_others_for_ever(
    evicting_machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    evicting_machine.add("old")
    evicting_machine.evict(limit=10**15)
    monkeypatch.setattr("include.datasets.caching.eviction._WAIT_SECONDS", 0.3)
    with hold(evicting_machine.cache.locks / "eviction", "LOCK_EX") as process:
        with pytest.raises(EvictionHangs, match="It seems to be stuck"):
            evicting_machine.evict(limit=1)
        process.communicate(b"end\n")
    evicting_machine.evict(limit=1)
    assert evicting_machine.left() == set()


KILLED = """
import os, signal, sys
from pathlib import Path
from include.datasets.caching import eviction
from include.datasets.caching.cache import DatasetCache

removed, unlink = 0, Path.unlink

def die_later(path, *arguments, **keywords):
    global removed
    if path.name.isdigit():
        removed += 1
        if removed == 3:
            os.kill(os.getpid(), signal.SIGKILL)
    unlink(path, *arguments, **keywords)

Path.unlink = die_later
eviction.make_room(DatasetCache(Path(sys.argv[1]), 1))
"""


def test_a_killed_eviction_leaves_no_incomplete_dataset(evicting_machine: Machine) -> None:
    evicting_machine.add("killed", *map(str, range(9)))
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(evicting_machine.cache.folder)], cwd=ROOT, check=False
    )
    assert killed.returncode == -9
    assert evicting_machine.left() == set(), "the partly removed folder no longer counts as a dataset"
    evicting_machine.add("next", "7")
    evicting_machine.evict(limit=100 * MIB)
    assert list((evicting_machine.cache.folder / ".evicted").iterdir()) == []
    evicting_machine.evict(limit=MIB + MIB // 2)
    assert (evicting_machine.left(), evicting_machine.stored()) == ({"7"}, 1)


USERS = """
import sys, time
from pathlib import Path
from include.datasets.caching.cache import DatasetCache
from tests.datasets.caching.test_eviction import Machine, fingerprint

machine, until = Machine(Path(sys.argv[1]), 1), time.monotonic() + 2
rounds = 0
while time.monotonic() < until or rounds <= 20:  # more than 20 rounds, even on a slow machine
    with machine.cache.use(fingerprint("shared")) as home:
        if not (home / "content").is_dir():
            partial = home / f"content.{sys.argv[2]}"
            partial.mkdir(parents=True, exist_ok=True)
            (partial / "file").write_bytes(b"whole")
            machine.cache.files.keep(partial / "file", fingerprint("file"))
            try:
                partial.rename(home / "content")
            except OSError:
                pass
        assert (home / "content" / "file").read_bytes() == b"whole"
        time.sleep(0.001)
        assert (home / "content" / "file").read_bytes() == b"whole"
    rounds += 1
"""


def test_no_eviction_removes_a_dataset_that_is_in_use(evicting_machine: Machine) -> None:
    users = [
        subprocess.Popen(
            [sys.executable, "-c", USERS, str(evicting_machine.cache.folder), str(number)],
            cwd=ROOT,
        )
        for number in range(2)
    ]
    evicted = 0
    while any(user.poll() is None for user in users):
        evicting_machine.evict(limit=1)
        evicted += not (evicting_machine.cache.folder / fingerprint("shared")).exists()
        time.sleep(0.002)
    assert [user.returncode for user in users] == [0, 0]
    assert evicted


def test_processes_that_are_killed_at_any_moment_leave_only_whole_datasets(evicting_machine: Machine) -> None:
    """Processes fetch, use and evict simultaneously; tests/support/cache_kills.py checks the cache."""
    seed = secrets.randbelow(2**32)
    command = [
        sys.executable,
        "-m",
        "tests.support.cache_kills",
        str(evicting_machine.cache.folder),
        str(seed),
        "2",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"seed {seed}: {done.stderr}"
    evicting_machine.evict(limit=1)
    assert (evicting_machine.left(), evicting_machine.stored()) == (set(), 0), f"seed {seed}"
    assert {path.name for path in evicting_machine.cache.folder.iterdir()} == {".evicted", "files", "locks"}
    assert {path.name for path in evicting_machine.cache.locks.iterdir()} == {"eviction"}


@pytest.mark.parametrize(("given", "limit"), [("", None), (" 1.5 ", 1_500_000_000), ("200", 200 * 10**9)])
def test_the_limit_is_a_setting_in_gigabytes(
    given: str, limit: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATASET_CACHE_GB", given)
    assert Settings.from_environment().dataset_cache_limit == limit


@pytest.mark.parametrize("given", ["0", "-1", "nan", "inf", "50 GB", "1e999", "x" * 1000])
def test_an_invalid_limit_is_refused(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASET_CACHE_GB", given)
    with pytest.raises(SettingRefused, match="is not a number of gigabytes above 0") as refused:
        Settings.from_environment()
    assert len(str(refused.value)) < 250
