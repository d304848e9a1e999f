"""Creates `.venv` from the locked requirements; needs only the standard library of the machine's Python."""

from __future__ import annotations

import argparse
import base64
import fcntl
import hashlib
import http.client
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).resolve().parents[2]
VENV = REPOSITORY / ".venv"
PYTHON = VENV / "bin" / "python"
UV_LOCK = REPOSITORY / "requirements-uv.txt"
EXCLUDED = REPOSITORY / ".ci" / "excluded-packages.txt"

DEFAULT_INDEX = "https://pypi.org/simple"
LOCKED = ["--require-hashes", "--only-binary", ":all:"]
"""Options of pip and uv: install only files whose hash is in the lock, and only wheels, which run no code
during installation."""

NEEDED_GB = 8.0
"""Size of the environment, most of it PyTorch with CUDA. If uv's cache is on another disk, it needs as much
there."""

PIP_TO_UV = {
    "index-url": "UV_DEFAULT_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "proxy": "ALL_PROXY",
}
"""pip's settings that uv has under other names. find-links and extra-index-url are omitted: all locked files
are on one index, and packages from elsewhere (a CPU build of PyTorch, say) would replace them."""


class BootstrapError(Exception):
    """The environment could not be created; the message tells the user why, and what to do."""


def main() -> int:
    """Create the environment, or update it if a lock has changed; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("requirements", nargs="+", type=Path, help="locked requirement files")
    files = [REPOSITORY / name for name in parser.parse_args().requirements]
    try:
        with _lock():
            _ensure(files)
    except BootstrapError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _ensure(files: list[Path]) -> None:
    pending = [file for file in files if not _is_installed(file)]
    if not pending:
        return
    _check_disk()
    started = time.monotonic()
    if not PYTHON.exists():
        print(f"Creating .venv with Python {sys.version.split()[0]} ...", flush=True)
        _create()
    elif not _find_stamp(UV_LOCK).exists():
        # Without pip's first installation, pip itself may be missing: an earlier setup may have been killed.
        subprocess.run([str(PYTHON), "-m", "ensurepip", "--default-pip"], capture_output=True, check=False)
    if not _is_installed(UV_LOCK):
        pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([*pip, *LOCKED, "-r", str(UV_LOCK)], os.environ)
        _find_stamp(UV_LOCK).write_text(_hash_file(UV_LOCK))
    names = ", ".join(file.name for file in files)
    size = "" if _has_airflow() else " (a download of about 3 GB, unless uv has cached it)"
    print(f"Installing {names}{size} ...", flush=True)
    options = [option for file in files for option in ("-r", str(file))]
    # On a terminal, show progress; otherwise skip the list of some 250 packages.
    quiet = [] if sys.stderr.isatty() else ["--quiet"]
    uv = [str(VENV / "bin" / "uv"), "pip", "install", "--python", str(PYTHON), "--compile-bytecode"]
    for file in files:
        # If this is interrupted, the packages are neither those of the old lock nor those of the new one.
        _find_stamp(file).unlink(missing_ok=True)
    _run([*uv, *quiet, *LOCKED, "--excludes", str(EXCLUDED), *options], build_uv_environment())
    for file in files:
        _find_stamp(file).write_text(_hash_file(file))
    print(f"Environment .venv: ready ({time.monotonic() - started:.0f} s)", flush=True)


def _create() -> None:
    """Create the environment, after removing the remains of an interrupted attempt."""
    shutil.rmtree(VENV, ignore_errors=True)
    created = subprocess.run(
        [sys.executable, "-m", "venv", str(VENV)], capture_output=True, text=True, check=False
    )
    if created.returncode:
        shutil.rmtree(VENV, ignore_errors=True)
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise BootstrapError(
            f"{sys.executable} cannot create a virtual environment: {created.stdout}{created.stderr}\n"
            f"On Debian and Ubuntu, install the missing package: apt install python{version}-venv. "
            "Or use another Python: make PYTHON=/path/to/python3.12 ..."
        )


def _run(command: list[str], environment: os._Environ[str] | dict[str, str]) -> None:
    if subprocess.run(command, env=environment, check=False).returncode:
        raise BootstrapError(_diagnose(command[0]))


def _diagnose(program: str) -> str:
    """Return why an installation failed: disk, network, or the installer's own message."""
    free = _measure_free_gb(VENV)
    if free < 1:
        return f"The disk with {VENV} is full ({free:.1f} GB free). Free up {NEEDED_GB:.0f} GB."
    index = build_uv_environment().get("UV_DEFAULT_INDEX", DEFAULT_INDEX)
    try:
        address = urlsplit(index)
        login, _, host = address.netloc.rpartition("@")
        index = address._replace(netloc=host).geturl()
        request = urllib.request.Request(f"{index.rstrip('/')}/pip/")  # noqa: S310 - the user's own index
        if login:
            user, _, password = map(unquote, login.partition(":"))
            encoded = base64.b64encode(f"{user}:{password}".encode()).decode()
            request.add_header("Authorization", f"Basic {encoded}")
        with urllib.request.urlopen(request, timeout=20):  # noqa: S310
            pass
    except (OSError, http.client.HTTPException, ValueError) as error:
        return (
            f"The package index {index.rpartition('@')[2]} cannot be reached: {error}.\n"
            f"Check the network, or use a mirror: PIP_INDEX_URL=https://... make ..."
        )
    return (
        f"{program} failed for the reason above. Downloads are kept: run the same command again. If a hash "
        "does not match, running it again will not help: the index serves a different file from the one that "
        "was locked."
    )


def build_uv_environment() -> dict[str, str]:
    """Return the environment variables for uv, which does not read pip's settings."""
    environment = dict(os.environ)
    environment.setdefault("UV_HTTP_TIMEOUT", environment.get("PIP_DEFAULT_TIMEOUT", "180"))
    if "UV_INDEX_URL" in environment:
        environment.setdefault("UV_DEFAULT_INDEX", environment["UV_INDEX_URL"])
    for setting, value in _read_pip_settings().items():
        if setting in PIP_TO_UV:
            environment.setdefault(PIP_TO_UV[setting], value)
    return environment


def _read_pip_settings() -> dict[str, str]:
    """Return pip's settings by name; environment variables take precedence over pip's files."""
    listed = subprocess.run(
        [str(PYTHON), "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    settings = {}
    for line in sorted(listed.stdout.splitlines(), key=lambda line: line.startswith(":env:")):
        name, _, value = line.partition("=")
        settings[name.rpartition(".")[2]] = value.strip("'\"")
    return settings


def _check_disk() -> None:
    if _has_airflow():
        return
    free = _measure_free_gb(VENV)
    if free < NEEDED_GB:
        raise BootstrapError(
            f"{REPOSITORY} has {free:.1f} GB of free disk space; the environment needs {NEEDED_GB:.0f} GB. "
            f"Free up space, or clone the repository to a larger disk."
        )


def _has_airflow() -> bool:
    """Return whether an earlier setup installed Airflow, even incompletely or in another version."""
    return (VENV / "bin" / "airflow").exists()


def _measure_free_gb(path: Path) -> float:
    existing = next(folder for folder in (path, *path.parents) if folder.exists())
    return shutil.disk_usage(existing).free / 1e9


def _is_installed(requirements: Path) -> bool:
    stamp = _find_stamp(requirements)
    return PYTHON.exists() and stamp.exists() and stamp.read_text() == _hash_file(requirements)


def _find_stamp(requirements: Path) -> Path:
    return VENV / f".installed-{requirements.name}"


def _hash_file(requirements: Path) -> str:
    return hashlib.sha256(requirements.read_bytes()).hexdigest()


@contextmanager
def _lock() -> Iterator[None]:
    """Hold the repository's lock, because `make demo` and `make test` may start at the same time."""
    folder = os.open(REPOSITORY, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


if __name__ == "__main__":
    sys.exit(main())
