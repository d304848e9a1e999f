"""Parsing a Dag file imports no heavy library, because the Dag processor parses all Dag files repeatedly."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DAGS = sorted(path.name for path in (ROOT / "dags").glob("*.py"))

HEAVY = {"boto3", "botocore", "cv2", "matplotlib", "numpy", "pandas", "PIL", "polars", "torch", "ultralytics"}

PARSE = """
import json, runpy, sys

import airflow.providers.common.sql.operators.sql
import airflow.sdk

before = set(sys.modules)
found = {}
for path in sys.argv[1:]:
    runpy.run_path(path)
    found[path] = sorted({name.partition(".")[0] for name in set(sys.modules) - before})
print("imported:", json.dumps(found))
"""


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Return the packages that each Dag file imports when parsed, besides those of Airflow itself."""
    files = [str(ROOT / "dags" / name) for name in DAGS]
    environment = {"AIRFLOW_HOME": str(tmp_path_factory.mktemp("airflow")), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", PARSE, *files], env=environment, capture_output=True, text=True, check=True
    )
    packages = json.loads(done.stdout.rpartition("imported: ")[2])
    return {Path(path).name: set(names) for path, names in packages.items()}


def test_parsing_a_dag_file_imports_no_heavy_library(imported: dict[str, set[str]]) -> None:
    assert "include" in imported[DAGS[0]]
    assert {name: packages & HEAVY for name, packages in imported.items()} == {name: set() for name in DAGS}
