"""The secrets of the Compose file: which service holds which secrets, and how .env.example generates them."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from include.deployment.model_keys import load_signing
from include.deployment.settings import (
    MODEL_SIGNING_KEY,
    Settings,
)
from include.stack.s3_identities import Role
from tests.support.compose import (
    DOCKERFILE,
    ENV_EXAMPLE,
    REPOSITORY,
    SERVICES,
    VARIABLE,
    mounts,
    required_variables,
)


def used_variables() -> set[str]:
    """Return the names of all variables that the Compose file takes from .env."""
    text = (REPOSITORY / "docker-compose.yaml").read_text()
    return {name for name, _ in VARIABLE.findall(text.replace("$${", ""))}


METADATA = {"AIRFLOW_DB_PASSWORD", "AIRFLOW_FERNET_KEY"}
QUEUES = {"REDIS_PASSWORD"}
S3_KEYS = {
    role: {f"S3_{role}_ACCESS_KEY_ID", f"S3_{role}_SECRET_ACCESS_KEY"} for role in map(str.upper, Role)
}
MLFLOW = {"MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"}
ROWS = {"TRAINING_DB_URL", "TRAINING_APP_DB_PASSWORD"}
OWNER = {"TRAINING_DB_OWNER_URL", "TRAINING_DB_PASSWORD"}
HOLDERS = {
    "postgres": {"POSTGRES_PASSWORD"},
    "postgres-roles": {
        "POSTGRES_PASSWORD",
        "AIRFLOW_DB_PASSWORD",
        "TRAINING_DB_PASSWORD",
        "TRAINING_APP_DB_PASSWORD",
    },
    "redis": {"REDIS_PASSWORD"},
    "s3": set(),
    "s3-certificates": set(),
    "model-keys": set(),
    "s3-identities": set().union(*S3_KEYS.values()) | {"S3_PREVIOUS_KEYS"},
    "airflow-init": METADATA | S3_KEYS["OWNER"] | {"AIRFLOW_ADMIN_PASSWORD"},
    # It has MLflow's secrets because only the API server learns of runs marked, deleted or cancelled.
    "airflow-apiserver": METADATA
    | ROWS
    | S3_KEYS["API"]
    | MLFLOW
    | {"AIRFLOW_JWT_SECRET", "AIRFLOW_API_SECRET_KEY"},
    "airflow-scheduler": METADATA | QUEUES | {"AIRFLOW_JWT_SECRET"},
    "airflow-dag-processor": METADATA | ROWS | MLFLOW,
    "airflow-triggerer": METADATA | ROWS,
    "airflow-worker": QUEUES | ROWS | S3_KEYS["WORKER"] | MLFLOW | {"AIRFLOW_CONN_TRAINING_BACKEND"},
    "airflow-worker-maintenance": QUEUES | ROWS | S3_KEYS["MAINTENANCE"],
    # It falls back to TRAINING_DB_URL if TRAINING_DB_OWNER_URL is not set.
    "airflow-worker-migrate": QUEUES | ROWS | OWNER,
    # It also mounts the volume with the key that signs models.
    "airflow-worker-promote": QUEUES | ROWS | S3_KEYS["WORKER"],
    "airflow-worker-cpu-training": QUEUES | ROWS | S3_KEYS["WORKER"] | MLFLOW,
    "airflow-worker-gpu": QUEUES | ROWS | S3_KEYS["WORKER"] | MLFLOW,
}
"""The secrets from .env that each service may have."""

SECRET = re.compile(
    "PASSWORD|SECRET|FERNET|ACCESS_KEY|PREVIOUS_KEYS|TOKEN|TRACKING_USERNAME|DB_(OWNER_)?URL|CONN_"
)


def test_each_service_has_the_secrets_that_it_needs_and_no_others() -> None:
    held = {}
    for name, service in SERVICES.items():
        environment = service.get("environment", {})
        named = {variable for value in environment.values() for variable, _ in VARIABLE.findall(value or "")}
        passed_on = {variable for variable, value in environment.items() if value is None}
        held[name] = {variable for variable in named | passed_on if SECRET.search(variable)}
    assert held == HOLDERS
    everything = set().union(*HOLDERS.values())
    assert {name for name in required_variables() if name not in everything} == set()


def secrets_in(environment: dict[str, str | None]) -> dict[str, str]:
    secret = re.compile(
        "PASSWORD|SECRET|FERNET|SQL_ALCHEMY_CONN|RESULT_BACKEND|BROKER_URL|CONN_TRAINING|REDISCLI_AUTH"
    )
    return {name: value for name, value in environment.items() if value and secret.search(name)}


@pytest.mark.parametrize("name", sorted(set(SERVICES) - {"model-keys", "s3", "s3-certificates"}))
def test_no_secret_has_a_default(name: str) -> None:
    secrets = secrets_in(SERVICES[name].get("environment", {}))
    assert secrets
    for variable, value in secrets.items():
        assert ":?" in value, f"{variable} of {name} starts without being set"
        for credential in re.findall(r"://\w*:([^@]*)@", value):
            assert credential.startswith("${"), f"{variable} of {name} holds a password"


def test_every_variable_is_explained_in_the_example() -> None:
    explained = set(re.findall(r"^(?:# )?([A-Z][A-Z0-9_]+)=", ENV_EXAMPLE, re.MULTILINE))
    environments = [service.get("environment", {}) for service in SERVICES.values()]
    passed_on = {name for each in environments for name, value in each.items() if value is None}
    assert explained == used_variables() | passed_on | {"COMPOSE_PROFILES"}


def test_every_secret_is_empty_in_the_example() -> None:
    empty = set(re.findall(r"^([A-Z][A-Z0-9_]+)=$", ENV_EXAMPLE, re.MULTILINE))
    assert empty == required_variables()


def test_the_command_in_the_example_makes_every_secret(tmp_path: Path) -> None:
    command = "\n".join(
        line.removeprefix("#   ") for line in ENV_EXAMPLE.splitlines() if line.startswith("#   ")
    )
    shutil.copy(REPOSITORY / ".env.example", tmp_path)

    subprocess.run(["bash", "-euc", command], cwd=tmp_path, check=True)

    made = tmp_path / ".env"
    values = dict(re.findall(r"^([A-Z][A-Z0-9_]+)=(.*)$", made.read_text(), re.MULTILINE))
    secrets = [values[name] for name in required_variables()]
    assert made.stat().st_mode & 0o077 == 0
    assert all(len(secret) >= 44 for secret in secrets)
    assert len(set(secrets)) == len(secrets)
    assert len(base64.urlsafe_b64decode(values["AIRFLOW_FERNET_KEY"])) == 32


def test_every_profile_of_the_example_exists() -> None:
    profiles = {profile for each in SERVICES.values() for profile in each.get("profiles", [])}
    chosen = re.search(r"^COMPOSE_PROFILES=(.+)$", ENV_EXAMPLE, re.MULTILINE)
    assert chosen
    assert set(chosen[1].split(",")) <= profiles
    assert profiles == {"gpu", "cpu-training", "s3"}


def test_only_the_worker_that_promotes_has_the_key_that_signs_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python, *made_by = SERVICES["model-keys"]["entrypoint"]
    assert python == "python"
    places = {"/model-signing": "private", "/model-keys": "public"}
    for folder in places.values():
        (tmp_path / folder).mkdir()

    def moved(path: str) -> str:
        return re.sub("|".join(places), lambda found: str(tmp_path / places[found[0]]), path)

    subprocess.run([sys.executable, *map(moved, made_by)], cwd=REPOSITORY, check=True)
    variable = f"AIRFLOW_CONN_{MODEL_SIGNING_KEY.upper()}"
    holders = [name for name in SERVICES if variable in SERVICES[name].get("environment", {})]
    mounting = [name for name in SERVICES if "model-signing" in mounts(SERVICES[name])]
    assert (holders, mounting) == (["airflow-worker-promote"], ["model-keys", "airflow-worker-promote"])
    assert "model-signing:/model-signing:ro" in SERVICES["airflow-worker-promote"]["volumes"]
    assert "--owner=airflow --group=0 --mode=0700 /model-signing" in DOCKERFILE
    promoting = SERVICES["airflow-worker-promote"]["environment"]
    monkeypatch.setenv(variable, moved(promoting[variable]))
    trusted = re.sub(r"\$\{\w+:-(.*)\}", r"\1", promoting["MODEL_VERIFICATION_KEYS"])
    monkeypatch.setenv("MODEL_VERIFICATION_KEYS", moved(trusted))
    assert load_signing(Settings.from_environment()).key is not None
