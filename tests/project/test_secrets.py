"""The instructions in docs/deployment.md on where Airflow finds its secrets."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from airflow.configuration import conf

PAGE = (Path(__file__).parents[2] / "docs" / "deployment.md").read_text(encoding="utf-8")
BACKENDS = re.findall(
    r"^AIRFLOW__(?:SECRETS__|WORKERS__SECRETS_)BACKEND=(\S+)\n"
    r"AIRFLOW__(?:SECRETS__|WORKERS__SECRETS_)BACKEND_KWARGS='(.+)'$",
    PAGE,
    re.MULTILINE,
)
COMMANDS = re.findall(r"^AIRFLOW__(\w+?)__(\w+)_CMD=", PAGE, re.MULTILINE)


@pytest.mark.parametrize(("backend", "arguments"), BACKENDS, ids=lambda text: text.rpartition(".")[2])
def test_every_documented_backend_accepts_its_documented_arguments(backend: str, arguments: str) -> None:
    module, _, name = backend.rpartition(".")
    getattr(importlib.import_module(module), name)(**json.loads(arguments))


def test_the_documentation_has_a_backend_for_files_and_one_for_a_service() -> None:
    assert {backend.rpartition(".")[2] for backend, _ in BACKENDS} == {
        "LocalFilesystemBackend",
        "SecretsManagerBackend",
    }


def test_every_setting_in_the_documentation_may_come_from_a_command() -> None:
    assert len(COMMANDS) > 3
    options = {(section.lower(), option.lower()) for section, option in COMMANDS}
    assert options <= set(conf.sensitive_config_values)


def test_settings_come_from_commands_and_connections_from_files(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from a file")
    connection = {"conn_type": "postgres", "host": "db.example.org", "password": "from another"}
    (tmp_path / "connections.json").write_text(json.dumps({"training_db": connection}))
    backend, arguments = next(each for each in BACKENDS if each[0].endswith("LocalFilesystemBackend"))
    kwargs = json.loads(arguments) | {"connections_file_path": str(tmp_path / "connections.json")}
    program = """
from airflow.configuration import conf
from airflow.providers.postgres.hooks.postgres import PostgresHook
print(conf.get("api_auth", "jwt_secret"), PostgresHook("training_db").get_connection("training_db").password)
"""
    environment = {
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__API_AUTH__JWT_SECRET_CMD": f"cat {tmp_path / 'key'}",
        "AIRFLOW__SECRETS__BACKEND": backend,
        "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps(kwargs),
    }
    found = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.splitlines()[-1] == "from a file from another"
