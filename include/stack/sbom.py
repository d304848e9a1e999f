"""Lists the packages of each image with their licences: `python -m include.stack.sbom` (`make sbom`).

The locked packages of each target of the Dockerfile are installed into a separate environment, with the
image's Python version. For each target, sbom/ gets `<target>.cdx.json`, a CycloneDX bill of materials, and
`<target>-licences.md`. Both list what this project adds to its base image: Python packages, and the console's
JavaScript libraries.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from include.stack.bootstrap import LOCKED, REPOSITORY, build_uv_environment

FOLDER = REPOSITORY / "sbom"
TARGETS = {"platform": "requirements-airflow.txt", "trainer": "requirements-trainer.txt"}
"""The lock of each target of the Dockerfile."""

VENDORED = REPOSITORY / "include" / "console" / "static" / "vendor" / "README.md"
UNDECLARED = "not declared"
PERMISSIVE = frozenset(
    (
        "0BSD",
        "3-Clause BSD License",
        "Apache Software License",
        "Apache-2.0",
        "BSD",
        "BSD License",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "BSL-1.0",
        "CC0-1.0",
        "ISC",
        "ISC License (ISCL)",
        "MIT",
        "MIT License",
        "MIT-0",
        "MIT-CMU",
        "PSF-2.0",
        "Python Software Foundation License",
        "The Unlicense (Unlicense)",
        "Zlib",
    )
)
"""Licences that require no more than a notice, as named by SPDX and by PyPI's classifiers."""


@dataclass(frozen=True)
class Package:
    """The metadata that a package declares."""

    name: str
    """Name in PyPI's normalised form."""
    version: str
    """The installed version; of a library, the version in the console's table."""
    licence: str
    """An SPDX expression, or whatever else the package declares."""

    @property
    def is_permissive(self) -> bool:
        """Whether each of its licences is known to require no more than a notice."""
        parts = re.split(r" AND | OR |; ", re.sub(r" WITH [\w.-]+", "", self.licence))
        return PERMISSIVE.issuperset(parts)


@dataclass(frozen=True)
class Library(Package):
    """A JavaScript library that the console serves, as the console's table of libraries describes it."""

    sha256: str
    """Hash of the file that the console serves, in hex."""


def main() -> int:
    """Write both files for each target, and return the exit status."""
    dockerfile = (REPOSITORY / "Dockerfile").read_text()
    [python] = re.findall(r"^ARG PYTHON_VERSION=(\S+)", dockerfile, re.MULTILINE)
    for target, lock in TARGETS.items():
        try:
            write(target, REPOSITORY / lock, python, FOLDER)
        except subprocess.CalledProcessError as error:
            print(f"{error.stderr}\nImage {target} has no bill of materials: see above.", file=sys.stderr)
            return 1
        print(f"sbom/{target}.cdx.json, sbom/{target}-licences.md")
    return 0


def write(target: str, lock: Path, python: str, folder: Path) -> None:
    """Install the packages in `lock` for Python `python`, and describe them. Raises CalledProcessError."""
    folder.mkdir(exist_ok=True)
    bill = folder / f"{target}.cdx.json"
    # On the same disk as .venv, so that uv can link files from its cache instead of copying them.
    with TemporaryDirectory(dir=folder) as environment:
        _install(lock, python, Path(environment))
        _describe(Path(environment), bill)
        packages = read_packages(
            distributions(path=[str(next(Path(environment).glob("lib/*/site-packages")))])
        )
    libraries = read_libraries()
    bill.write_text(
        json.dumps(_complete(json.loads(bill.read_text()), target, packages, libraries), indent=2) + "\n"
    )
    (folder / f"{target}-licences.md").write_text(_list_licences(target, packages, libraries))


def read_packages(found: Iterable[Distribution]) -> list[Package]:
    """Return the packages, sorted by name."""
    packages = (Package(_normalize(each.name), each.version, find_licence(each)) for each in found)
    return sorted(packages, key=lambda package: package.name)


def find_licence(distribution: Distribution) -> str:
    """Return the declared licence: an SPDX expression, or classifiers, or the first line of free text."""
    fields = distribution.metadata.get_all
    classifiers = fields("Classifier", [])
    licences = [
        each.rpartition(" :: ")[2] for each in classifiers if each.startswith("License :: OSI Approved ::")
    ]
    [text] = fields("License", [""])
    [expression] = fields("License-Expression", [""])
    return expression or "; ".join(licences) or text.strip().partition("\n")[0] or UNDECLARED


def read_libraries() -> list[Library]:
    """Return the JavaScript libraries in the console's table, without duplicates."""
    rows = [
        line.split("|")
        for line in VENDORED.read_text(encoding="utf-8").splitlines()
        if "registry.npmjs.org" in line
    ]
    libraries = {}
    for _, file, _, _, licence, source, sha256, _ in rows:
        [(name, version)] = re.findall(r"/-/(.+)-(\d[\d.]*)\.tgz", source)
        expression = " AND ".join(re.findall(r"\b(?:Apache-2\.0|MIT)\b", licence))
        if ".js]" in file:
            libraries[name] = Library(name, version, expression, sha256.strip(" `"))
    return list(libraries.values())


def _install(lock: Path, python: str, environment: Path) -> None:
    uv = str(Path(sys.executable).parent / "uv")
    _run([uv, "venv", "--no-python-downloads", "--python", python, str(environment)])
    where = ["--python", str(environment / "bin" / "python")]
    _run([uv, "pip", "install", *LOCKED, *where, "--requirement", str(lock)])


def _describe(environment: Path, bill: Path) -> None:
    command = [sys.executable, "-m", "cyclonedx_py", "environment", str(environment / "bin" / "python")]
    project = ["--pyproject", str(REPOSITORY / "pyproject.toml")]
    # Validation would take longer than everything else; a test validates the result.
    _run([*command, *project, "--output-reproducible", "--no-validate", "--output-file", str(bill)])


def _run(command: list[str]) -> None:
    subprocess.run(command, env=build_uv_environment(), check=True, capture_output=True, text=True)


def _complete(
    bill: dict[str, Any], target: str, packages: list[Package], libraries: list[Library]
) -> dict[str, Any]:
    """Add the image's name and direct dependencies, missing licences, and the JavaScript libraries."""
    licences = {package.name: package.licence for package in packages}
    for component in bill["components"]:
        component.setdefault("licenses", [{"license": {"name": licences[_normalize(component["name"])]}}])
    bill["components"] += [_build_component(library) for library in libraries]
    bill["metadata"]["component"]["name"] = f"yolo-training-{target}"
    root = bill["metadata"]["component"]["bom-ref"]
    needed = {ref for entry in bill["dependencies"] for ref in entry.get("dependsOn", [])}
    direct = {component["bom-ref"] for component in bill["components"]} - needed
    bill["dependencies"] = [entry for entry in bill["dependencies"] if entry["ref"] != root]
    bill["dependencies"].append({"ref": root, "dependsOn": sorted(direct)})
    return bill


def _build_component(library: Library) -> dict[str, Any]:
    return {
        "type": "library",
        "bom-ref": f"{library.name}=={library.version}",
        "name": library.name,
        "version": library.version,
        "purl": f"pkg:npm/{library.name}@{library.version}",
        "licenses": [{"expression": library.licence}],
        "hashes": [{"alg": "SHA-256", "content": library.sha256}],
    }


def _list_licences(target: str, packages: list[Package], libraries: list[Library]) -> str:
    every = sorted([*packages, *libraries], key=lambda package: package.name)
    return (
        f"# Licences in the image `{target}`\n\n"
        "Licences as the packages declare them. Packages of the base image are not listed. "
        "The image's own code is under AGPL-3.0-only.\n\n"
        "## With conditions beyond a notice\n\n"
        f"{_render_table(package for package in every if not package.is_permissive)}\n"
        f"## Permissive\n\n{_render_table(package for package in every if package.is_permissive)}"
    )


def _render_table(packages: Iterable[Package]) -> str:
    rows = [f"| {package.name} | {package.version} | {package.licence} |\n" for package in packages]
    return "".join(["| package | version | licence |\n|---|---|---|\n", *rows])


def _normalize(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    sys.exit(main())
