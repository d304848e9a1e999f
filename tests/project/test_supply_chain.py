"""The origin of packages, the contents of the images, and their licences."""

from __future__ import annotations

import json
import re
import sys
from fnmatch import filter as fnmatch_filter
from fnmatch import fnmatch
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest
import yaml
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from include.stack.sbom import TARGETS, read_libraries, read_packages, write
from tests.support.locks import Pin, read_lock
from tests.support.package_index import package_index

ROOT = Path(__file__).parents[2]
LOCKS = sorted(ROOT.glob("requirements*.txt"))
DOCKERFILE = (ROOT / "Dockerfile").read_text()
PAGE = (ROOT / "docs" / "supply-chain.md").read_text(encoding="utf-8")


def pins(name: str) -> set[Pin]:
    return set(read_lock(ROOT / name))


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_locked_package_has_the_hashes_of_its_files(lock: Path) -> None:
    locked = read_lock(lock)
    assert locked
    for pin in locked:
        assert pin.hashes, f"{pin.package} of {lock.name}: run make lock"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in pin.hashes), pin.package


def test_the_images_contain_only_packages_that_the_local_stack_tests() -> None:
    platform, trainer, local = (pins(name) for name in (*TARGETS.values(), "requirements.txt"))
    assert platform < trainer < local
    assert {"torch", "ultralytics-opencv-headless"} <= {pin.package for pin in trainer - platform}


def test_each_target_installs_its_own_lock_and_nothing_else() -> None:
    stages = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)
    installed = {
        match[1]: re.findall(r"--requirement /opt/airflow/requirements/(\S+)", stage)
        for stage in stages
        if "pip install" in stage and (match := re.search(r" AS (\w+)-packages$", stage, re.MULTILINE))
    }
    assert installed == {target: [lock] for target, lock in TARGETS.items()}
    assert DOCKERFILE.count("pip install") == DOCKERFILE.count("--require-hashes") == len(TARGETS)


def test_the_page_explains_how_to_read_the_digest_of_every_base_image() -> None:
    [airflow] = re.findall(r"^ARG AIRFLOW_VERSION=(\S+)$", DOCKERFILE, re.MULTILINE)
    [python] = re.findall(r"^ARG PYTHON_VERSION=(\S+)$", DOCKERFILE, re.MULTILINE)
    compose = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())
    others = {each["image"] for each in compose["services"].values() if "build" not in each}
    [listed] = re.findall(r"^for image in (.+); do$", PAGE, re.MULTILINE)
    assert set(listed.split()) == others | {f"apache/airflow:slim-{airflow}-python{python}"}


def test_the_images_are_described_with_their_own_python() -> None:
    [version] = re.findall(r"^ARG PYTHON_VERSION=(\S+)$", DOCKERFILE, re.MULTILINE)
    job = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())["jobs"]["sbom"]
    assert job["container"].startswith(f"python:{version}-")
    assert f"version of Python ({version}," in " ".join(PAGE.split())


def test_make_lock_and_dependabot_have_the_same_cool_down() -> None:
    [days] = re.findall(r"^COOL_DOWN = (\d+) days$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    updates: list[dict[str, Any]] = yaml.safe_load((ROOT / ".github/dependabot.yml").read_text())["updates"]
    assert {each["cooldown"]["default-days"] for each in updates} == {int(days)}


def test_the_page_names_every_package_whose_licence_demands_more_than_a_notice() -> None:
    """The test fails if somebody adds a package whose licence is unknown or demands more than a notice."""
    images = {pin.package for lock in TARGETS.values() for pin in pins(lock)}
    installed = [package for package in read_packages(distributions()) if package.name in images]
    found = {package.name for package in installed if not package.is_permissive}
    table = PAGE.partition("## Licences")[2].partition("\n## ")[0]
    named = {
        name
        for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
        for name in re.findall("`(.+?)`", row)
    }
    assert {"ultralytics-opencv-headless", "psycopg"} <= named
    assert [name for name in found if not any(fnmatch(name, pattern) for pattern in named)] == []
    assert [pattern for pattern in named if not fnmatch_filter(found, pattern)] == []


def test_the_libraries_of_the_pages_are_in_the_bill_of_materials() -> None:
    assert {(each.name, each.licence) for each in read_libraries()} == {
        ("htm", "Apache-2.0 AND MIT"),
        ("uplot", "MIT"),
    }


@pytest.fixture(scope="module")
def described_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the files that describe an image with two packages, one of which depends on the other."""
    folder = tmp_path_factory.mktemp("described")
    lock = folder / "requirements.txt"
    with package_index(folder) as index, pytest.MonkeyPatch.context() as patch:
        parcel = index.add("parcel", "License-Expression: AGPL-3.0-only", "Requires-Dist: string")
        string = index.add("string", "Classifier: License :: OSI Approved :: MIT License")
        lock.write_text(f"parcel==1.0 --hash=sha256:{parcel}\nstring==1.0 --hash=sha256:{string}\n")
        patch.setenv("UV_DEFAULT_INDEX", index.url)
        patch.setenv("UV_CACHE_DIR", str(folder / "cache"))
        write("image", lock, sys.executable, folder / "sbom")
    return folder / "sbom"


def test_the_bill_of_materials_is_valid_and_lists_the_locked_packages(described_folder: Path) -> None:
    text = (described_folder / "image.cdx.json").read_text()
    bill = json.loads(text)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert {each["purl"] for each in bill["components"]} >= {"pkg:pypi/parcel@1.0", "pkg:pypi/string@1.0"}
    assert {each["name"] for each in bill["components"]} == {"parcel", "string", "htm", "uplot"}
    needs = {each["ref"]: each.get("dependsOn", []) for each in bill["dependencies"]}
    assert needs["parcel==1.0"] == ["string==1.0"]
    assert [ref.partition("==")[0] for ref in needs["root-component"]] == ["htm", "parcel", "uplot"]


def test_the_list_of_licences_begins_with_those_that_demand_more_than_a_notice(
    described_folder: Path,
) -> None:
    text = (described_folder / "image-licences.md").read_text()
    conditions, permissive = text.split("## Permissive")
    assert "| parcel | 1.0 | AGPL-3.0-only |" in conditions
    assert "| string | 1.0 | MIT License |" in permissive
    assert "| uplot |" in permissive
    assert [path.name for path in sorted(described_folder.iterdir())] == [
        "image-licences.md",
        "image.cdx.json",
    ]
