"""`make` on a machine that lacks a requirement, and the lock file."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.support.locks import read_lock
from tests.support.package_index import PackageIndex, package_index

REPOSITORY = Path(__file__).parents[2]
SHORT_LISTS = sorted(REPOSITORY.glob("requirements*.in"))
DOCKERFILE = (REPOSITORY / "Dockerfile").read_text()


def _make(directory: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(directory), **variables}
    return subprocess.run(
        ["make", *arguments], cwd=directory, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture
def fresh_clone(tmp_path: Path) -> Path:
    """Return a folder with the files that the set-up needs, without a virtual environment."""
    shutil.copy(REPOSITORY / "Makefile", tmp_path)
    (tmp_path / "include" / "stack").mkdir(parents=True)
    shutil.copy(REPOSITORY / "include" / "stack" / "bootstrap.py", tmp_path / "include" / "stack")
    (tmp_path / "requirements.txt").write_text("rich==15.0.0\n")
    shutil.copy(REPOSITORY / "requirements-uv.txt", tmp_path)
    (tmp_path / ".ci").mkdir()
    shutil.copy(REPOSITORY / ".ci" / "excluded-packages.txt", tmp_path / ".ci")
    return tmp_path


@pytest.fixture
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PackageIndex]:
    with package_index(tmp_path_factory.mktemp("index")) as served:
        yield served


def _set_up(clone: Path, index: PackageIndex) -> subprocess.CompletedProcess[str]:
    """Run `make setup` in a clone in which .venv and uv already exist."""
    venv.create(clone / ".venv", with_pip=False)
    (clone / ".venv" / "bin" / "uv").symlink_to(Path(sys.executable).with_name("uv"))
    lock = (clone / "requirements-uv.txt").read_bytes()
    (clone / ".venv" / ".installed-requirements-uv.txt").write_text(hashlib.sha256(lock).hexdigest())
    return _make(clone, "setup", UV_DEFAULT_INDEX=index.url)


def _build_image(clone: Path, index: PackageIndex) -> subprocess.CompletedProcess[str]:
    """Run the Dockerfile's command that installs packages, with a folder as its target."""
    [command, _] = re.findall(r"^RUN pip install (.*?) *\\\n *--requirement \S+$", DOCKERFILE, re.MULTILINE)
    options = [*command.split(), "--requirement", "requirements.txt", "--target", str(clone / ".venv")]
    environment = {"PATH": os.environ["PATH"], "PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": index.url}
    return subprocess.run(
        [sys.executable, "-m", "pip", "install", *options],
        cwd=clone,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


INSTALLERS = pytest.mark.parametrize("install", [_set_up, _build_image])
Installer = Callable[[Path, PackageIndex], subprocess.CompletedProcess[str]]


@INSTALLERS
def test_the_locked_file_is_installed(install: Installer, fresh_clone: Path, index: PackageIndex) -> None:
    (fresh_clone / "requirements.txt").write_text(f"parcel==1.0 --hash=sha256:{index.add('parcel')}\n")
    installed = install(fresh_clone, index)
    assert installed.returncode == 0, installed.stderr
    assert list(fresh_clone.rglob("parcel.py"))


@INSTALLERS
def test_a_file_with_another_hash_is_refused(
    install: Installer, fresh_clone: Path, index: PackageIndex
) -> None:
    served = index.add("parcel")
    changed = f"{int(served, 16) ^ 1:064x}"
    (fresh_clone / "requirements.txt").write_text(f"parcel==1.0 --hash=sha256:{changed}\n")
    refused = install(fresh_clone, index)
    assert refused.returncode != 0
    assert changed in refused.stderr
    assert served in refused.stderr
    assert not list(fresh_clone.rglob("parcel.py"))


@INSTALLERS
def test_a_package_without_a_hash_is_refused(
    install: Installer, fresh_clone: Path, index: PackageIndex
) -> None:
    index.add("parcel")
    (fresh_clone / "requirements.txt").write_text("parcel==1.0\n")
    refused = install(fresh_clone, index)
    assert refused.returncode != 0
    assert "hash" in refused.stderr.lower()
    assert not list(fresh_clone.rglob("parcel.py"))


def test_a_missing_python_is_named(fresh_clone: Path) -> None:
    made = _make(fresh_clone, "setup", "PYTHON=python2.6")
    assert made.returncode != 0
    assert "python2.6 is no working Python, but Python 3.11, 3.12 or 3.13 is needed" in made.stderr


def test_an_unreachable_index_is_named_without_its_password(fresh_clone: Path) -> None:
    # Without a port, what follows the user would be mistaken for one.
    made = _make(fresh_clone, "setup", PIP_INDEX_URL="http://robot:hidden@[::1]/simple", PIP_RETRIES="0")
    assert made.returncode != 0
    assert "The package index http://[::1]/simple cannot be reached" in made.stderr
    assert "hidden" not in made.stderr


def test_an_environment_whose_creation_was_killed_is_created_again(fresh_clone: Path) -> None:
    venv.create(fresh_clone / ".venv", with_pip=False)  # the Python is there, pip would have come next
    _make(fresh_clone, "setup", PIP_INDEX_URL="http://127.0.0.1:9/simple", PIP_RETRIES="0")
    assert (fresh_clone / ".venv" / "bin" / "pip").exists()


def test_the_former_lock_is_installed_again_after_an_update_that_failed(
    fresh_clone: Path, index: PackageIndex
) -> None:
    lock = fresh_clone / "requirements.txt"
    former = f"parcel==1.0 --hash=sha256:{index.add('parcel')}\n"
    lock.write_text(former)
    assert "Installing requirements.txt" in _set_up(fresh_clone, index).stdout
    lock.write_text(f"{former}missing==1.0 --hash=sha256:{0:064}\n")
    assert _make(fresh_clone, "setup", UV_DEFAULT_INDEX=index.url).returncode != 0
    lock.write_text(former)
    for expected in (True, False):
        made = _make(fresh_clone, "setup", UV_DEFAULT_INDEX=index.url)
        assert ("Installing requirements.txt" in made.stdout) == expected


@pytest.mark.parametrize("command", ["env", "down", "status"])
def test_make_names_the_first_command_if_nothing_is_set_up(fresh_clone: Path, command: str) -> None:
    made = _make(fresh_clone, command)
    assert made.returncode != 0
    assert made.stdout == ""
    assert "Start with: make demo" in made.stderr


@pytest.mark.parametrize("short_list", SHORT_LISTS, ids=lambda path: path.name)
def test_the_lock_satisfies_the_requirements(short_list: Path) -> None:
    own = short_list.with_suffix(".txt")
    lock = own if own.exists() else REPOSITORY / "requirements.txt"
    pins: dict[str, list[Version]] = {}
    for pin in read_lock(lock):
        pins.setdefault(pin.package, []).append(Version(pin.version))

    for line in short_list.read_text().splitlines():
        text = line.partition("#")[0].strip()
        if text and not text.startswith("-"):
            wanted = Requirement(text)
            pinned = pins.get(wanted.name.lower().replace("_", "-"), [])
            assert pinned, f"{wanted.name} of {short_list.name} is not in {lock.name}: run make lock"
            assert all(wanted.specifier.contains(each) for each in pinned), f"{wanted}: run make lock"
