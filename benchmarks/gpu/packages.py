"""Download and install the pinned Ultralytics, without torch and the usual scientific packages.

`python -m benchmarks.gpu.packages` (`make gpu-wheels`) downloads the wheels into the folder `gpu-wheels`; a
GPU machine without a network installs them from there. That machine must have torch 2.9 or later,
torchvision, numpy, scipy, matplotlib, OpenCV, pillow, PyYAML, requests, psutil and nvidia-ml-py.
"""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "gpu-wheels"
LOCK = "requirements.txt"
"""Name of the repository's lock file, and of the lock file that contains only these packages."""
PACKAGES = (
    "ultralytics-opencv-headless",
    "ultralytics-thop",
    "ultralytics-platform",
    "polars",
    "polars-runtime-32",
)
MOST_BYTES = 60 * 10**6


def pinned_requirements() -> list[str]:
    """Return each package with its locked version, such as polars==2.1.0."""
    pins = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", _read_lock(), re.MULTILINE))
    return [f"{package}=={pins[package]}" for package in PACKAGES]


def write_lock(target: Path) -> None:
    """Write the lock file's entries for these packages, with the hashes of their files."""
    text = _read_lock()
    entries = [re.search(rf"^{package}==(?:.*\\\n)*.*\n", text, re.MULTILINE) for package in PACKAGES]
    target.write_text("".join(entry[0] for entry in entries if entry), encoding="utf-8")


def download() -> int:
    """Download wheels for Linux on x86-64 and any Python from 3.11; return their total size in bytes."""
    FOLDER.mkdir(exist_ok=True)
    for wheel in FOLDER.glob("*.whl"):
        wheel.unlink()
    platforms = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
    which = ["--only-binary", ":all:", "--python-version", "3.11", "--implementation", "cp"]
    which += [option for platform in platforms for option in ("--platform", platform)]
    write_lock(FOLDER / LOCK)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *which, "--dest", str(FOLDER)]
    subprocess.run([*command, "--require-hashes", "--requirement", str(FOLDER / LOCK)], check=True)
    return sum(wheel.stat().st_size for wheel in FOLDER.glob("*.whl"))


def ensure_ultralytics(target: Path) -> None:
    """Make the pinned packages importable in this process and its children, and install missing ones."""
    wanted = pinned_requirements()
    if all(_installed(requirement) for requirement in wanted):
        return
    if not FOLDER.is_dir():
        sys.exit(f"{wanted[0]} is not installed and {FOLDER} does not exist. Run `make gpu-wheels` first.")
    if not (target / "ultralytics").is_dir():
        target.mkdir(parents=True, exist_ok=True)
        write_lock(target / LOCK)
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
        where = ["--find-links", str(FOLDER), "--target", str(target)]
        which = ["--require-hashes", "--requirement", str(target / LOCK)]
        subprocess.run([*command, *where, *which], check=True)
    sys.path.insert(0, str(target))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(target), os.environ.get("PYTHONPATH")]))
    importlib.invalidate_caches()


def _read_lock() -> str:
    return (ROOT / LOCK).read_text(encoding="utf-8")


def _installed(requirement: str) -> bool:
    name, _, wanted = requirement.partition("==")
    try:
        return version(name) == wanted
    except PackageNotFoundError:
        return False


if __name__ == "__main__":
    size = download()
    if size > MOST_BYTES:
        sys.exit(f"The wheels take {size / 1e6:.0f} MB; the limit is {MOST_BYTES / 1e6:.0f} MB.")
    sys.stdout.write(f"{FOLDER.name}: {size / 1e6:.0f} MB\n")
