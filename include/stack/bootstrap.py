"""Creates `.venv` from the locked requirements, with the machine's own Python: standard library only."""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).resolve().parents[2]
VENV = REPOSITORY / ".venv"
PYTHON = VENV / "bin" / "python"
UV = "uv==0.13.9"

DEFAULT_INDEX = "https://pypi.org/simple"
NEEDED_GB = 8.0
"""The environment and, on another disk, uv's cache of the same files: PyTorch with CUDA is most of it."""

PIP_TO_UV = {
    "index-url": "UV_DEFAULT_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "proxy": "ALL_PROXY",
}
"""pip's settings that uv has under other names. Not find-links and extra-index-url: what lies there (a
CPU build of PyTorch, say) would take the place of the locked files, which are all on the one index."""


class BootstrapError(Exception):
    """The environment could not be made, as sentences for the person at the terminal."""


def main() -> int:
    """Make the environment unless it is there; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("requirements", nargs="+", type=Path, help="locked requirement files")
    files = [REPOSITORY / each for each in parser.parse_args().requirements]
    try:
        with _alone():
            _ensure(files)
    except BootstrapError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _ensure(files: list[Path]) -> None:
    pending = [each for each in files if not _installed(each)]
    if not pending:
        return
    _check_disk()
    started = time.monotonic()
    if not PYTHON.exists():
        print(f"Creating .venv with Python {sys.version.split()[0]} ...", flush=True)
        _create()
    if not (VENV / "bin" / "uv").exists():
        _run([str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", UV], os.environ)
    names = ", ".join(each.name for each in files)
    size = "" if _has_airflow() else ", about 3 GB to download unless it is in uv's cache"
    print(f"Installing {names}{size} ...", flush=True)
    options = [option for each in files for option in ("-r", str(each))]
    # Progress is for people who watch; its list of some 250 packages is for nobody.
    quiet = [] if sys.stderr.isatty() else ["--quiet"]
    uv = [str(VENV / "bin" / "uv"), "pip", "install", "--python", str(PYTHON), "--compile-bytecode"]
    _run([*uv, *quiet, *options], _uv_environment())
    for each in files:
        _stamp(each).write_text(_digest(each))
    print(f"Environment .venv: ready ({time.monotonic() - started:.0f} s)", flush=True)


def _create() -> None:
    """Remove what an interrupted attempt left, and create the environment."""
    shutil.rmtree(VENV, ignore_errors=True)
    created = subprocess.run(
        [sys.executable, "-m", "venv", str(VENV)], capture_output=True, text=True, check=False
    )
    if created.returncode:
        shutil.rmtree(VENV, ignore_errors=True)
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise BootstrapError(
            f"{sys.executable} cannot create a virtual environment: {created.stdout}{created.stderr}\n"
            f"On Debian and Ubuntu that needs a package: apt install python{version}-venv. "
            "Or name another Python: make PYTHON=/path/to/python3.12 ..."
        )


def _run(command: list[str], environment: os._Environ[str] | dict[str, str]) -> None:
    if subprocess.run(command, env=environment, check=False).returncode:
        raise BootstrapError(_diagnosis(command[0]))


def _diagnosis(program: str) -> str:
    """Why an installation failed: no disk, no network, or what the installer itself said."""
    free = _free_gb(VENV)
    if free < 1:
        return f"The disk of {VENV} is full ({free:.1f} GB free). Make room for {NEEDED_GB:.0f} GB."
    index = _uv_environment().get("UV_DEFAULT_INDEX", DEFAULT_INDEX)
    try:
        with urllib.request.urlopen(f"{index.rstrip('/')}/pip/", timeout=20):  # noqa: S310 - the user's own index
            pass
    except (urllib.error.URLError, TimeoutError, ValueError) as error:
        return (
            f"The package index {index} cannot be reached: {error}.\n"
            f"Check the network, or name a mirror: PIP_INDEX_URL=https://... make ..."
        )
    return f"{program} failed; it says why above. What was downloaded is kept: run the same command again."


def _uv_environment() -> dict[str, str]:
    """Return the environment for uv, which reads its own settings but not pip's."""
    environment = dict(os.environ)
    environment.setdefault("UV_HTTP_TIMEOUT", environment.get("PIP_DEFAULT_TIMEOUT", "180"))
    if "UV_INDEX_URL" in environment:
        environment.setdefault("UV_DEFAULT_INDEX", environment["UV_INDEX_URL"])
    for setting, value in _pip_settings().items():
        if setting in PIP_TO_UV:
            environment.setdefault(PIP_TO_UV[setting], value)
    return environment


def _pip_settings() -> dict[str, str]:
    """Pip's own, by name; those of its environment variables come last and win."""
    listed = subprocess.run(
        [str(PYTHON), "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    settings = {}
    for line in sorted(listed.stdout.splitlines(), key=lambda each: each.startswith(":env:")):
        name, _, value = line.partition("=")
        settings[name.rpartition(".")[2]] = value.strip("'\"")
    return settings


def _check_disk() -> None:
    if _has_airflow():
        return
    free = _free_gb(VENV)
    if free < NEEDED_GB:
        raise BootstrapError(
            f"{REPOSITORY} has {free:.1f} GB of free disk; the environment needs {NEEDED_GB:.0f} GB. "
            f"Make room, or clone the repository to a larger disk."
        )


def _has_airflow() -> bool:
    """Whether a set-up was completed before, if with other versions."""
    return (VENV / "bin" / "airflow").exists()


def _free_gb(path: Path) -> float:
    there = next(each for each in (path, *path.parents) if each.exists())
    return shutil.disk_usage(there).free / 1e9


def _installed(requirements: Path) -> bool:
    stamp = _stamp(requirements)
    return PYTHON.exists() and stamp.exists() and stamp.read_text() == _digest(requirements)


def _stamp(requirements: Path) -> Path:
    return VENV / f".installed-{requirements.name}"


def _digest(requirements: Path) -> str:
    return hashlib.sha256(requirements.read_bytes()).hexdigest()


@contextmanager
def _alone() -> Iterator[None]:
    """`make demo` and `make test` may begin at the same moment."""
    folder = os.open(REPOSITORY, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


if __name__ == "__main__":
    sys.exit(main())
