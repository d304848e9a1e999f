"""The services of the Compose file: their rights, resources, networks, volumes, queues and settings."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import yaml

from include.deployment.settings import (
    GPU_POOL,
    GPU_QUEUE,
    MAINTENANCE_QUEUE,
    MIGRATION_QUEUE,
    PROMOTION_QUEUE,
    TRAINING_DB,
    TRAINING_S3,
    Settings,
)
from include.serving.protocol import MOST_DESCRIPTORS
from tests.support.compose import (
    AIRFLOW,
    COMPOSE,
    DEPLOYMENT_PAGE,
    DOCKERFILE,
    REPOSITORY,
    SERVICES,
    TRAINERS,
    mounts,
)

ONCE = {"airflow-init", "model-keys", "postgres-roles", "s3-certificates", "s3-identities"}
"""The services that run once and end before the other services start."""


def test_the_compose_file_has_every_service_that_airflow_needs() -> None:
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
def test_every_long_running_service_has_a_health_check(name: str) -> None:
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
def test_every_service_has_only_the_rights_and_resources_that_it_needs(name: str) -> None:
    service = SERVICES[name]
    assert service["user"] in {"50000:0", "postgres", "valkey"}
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert service["mem_limit"]
    assert service["pids_limit"] > 0
    assert {"max-size", "max-file"} <= set(service["logging"]["options"])
    assert not {"cap_add", "devices", "group_add", "ipc", "pid", "privileged"} & set(service)
    assert service.get("network_mode", "none") == "none"


def test_persistent_data_is_in_named_volumes() -> None:
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


def test_a_service_is_only_in_the_networks_that_it_needs() -> None:
    assert {name: set(service.get("networks", [])) for name, service in SERVICES.items()} == NETWORKS
    outwards = {name for name, network in COMPOSE["networks"].items() if not (network or {}).get("internal")}
    assert outwards == {"front", "outside"}
    # Docker can publish a port only from a network that is not internal.
    assert {name for name, service in SERVICES.items() if "ports" in service} == {
        name for name, networks in NETWORKS.items() if "front" in networks
    }


def test_the_documented_overrides_change_existing_services_and_variables() -> None:
    blocks = [
        textwrap.dedent(block)
        for block in re.findall(r"^ *```yaml\n(.+?)^ *```", DEPLOYMENT_PAGE, re.MULTILINE | re.DOTALL)
    ]
    assert len(blocks) > 3
    for block in blocks:
        for name, override in yaml.safe_load(block)["services"].items():
            known = SERVICES[name]
            assert set(override) <= set(known) | {"ports"}
            assert set(override.get("environment", {})) <= set(known.get("environment", {}))
            ports = {port.rpartition(":")[2] for port in override.get("ports", [])}
            assert ports <= {"5432", "6379", "8080", "8333"}


def test_a_worker_whose_gpus_do_not_respond_is_unhealthy() -> None:
    _, command = SERVICES["airflow-worker-gpu"]["healthcheck"]["test"]
    assert command.startswith("nvidia-smi --list-gpus && celery ")


def test_only_the_gpu_worker_requests_a_gpu_and_only_in_its_profile() -> None:
    asking = [name for name in SERVICES if "deploy" in SERVICES[name]]
    assert asking == ["airflow-worker-gpu"]
    [device] = SERVICES["airflow-worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
    assert SERVICES["airflow-worker-gpu"]["profiles"] == ["gpu"]


@pytest.mark.parametrize("name", TRAINERS)
def test_training_workers_take_one_task_at_a_time_from_the_queue_of_the_dag(name: str) -> None:
    service = SERVICES[name]
    assert service["command"] == f"celery worker --skip-serve-logs --queues {GPU_QUEUE} --concurrency 1"
    assert service["build"]["target"] == "trainer"
    assert {"shm_size", "stop_grace_period"} <= set(service)


@pytest.mark.parametrize("name", TRAINERS)
def test_a_stopping_training_worker_signals_its_task_and_stops_before_the_services_that_the_task_needs(
    name: str,
) -> None:
    service = SERVICES[name]
    # Docker's signal goes to the whole process group; the supervisor in it forwards the signal to the task.
    assert service["environment"]["DUMB_INIT_SETSID"] == "1"
    assert {"airflow-apiserver", "postgres", "redis", "s3"} <= set(service["depends_on"])


def test_the_death_of_a_training_machine_is_detected_within_a_minute() -> None:
    environment = COMPOSE["x-settings"]
    interval, timeout, check = (
        int(environment[f"AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_{name}"])
        for name in ("SEC", "TIMEOUT", "TIMEOUT_DETECTION_INTERVAL")
    )
    assert timeout + check < 60
    assert timeout >= 5 * interval


def test_every_queue_of_the_dags_has_a_worker_and_every_pool_is_created() -> None:
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


def test_the_api_server_allows_many_connections_and_does_not_trust_unknown_proxies() -> None:
    service = SERVICES["airflow-apiserver"]
    assert service["ulimits"]["nofile"] >= MOST_DESCRIPTORS
    assert service["command"] == "api-server --proxy-headers"
    assert service["environment"]["FORWARDED_ALLOW_IPS"] is None


def test_a_task_is_not_delivered_twice_during_a_long_training_run() -> None:
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
    # The server runs as this user, who owns both folders.
    assert "--owner=airflow --group=0 --mode=0700 /s3-security /s3-data" in DOCKERFILE
    assert certified["user"] == SERVICES["s3"]["user"]
    data = {"type": "volume", "source": "s3", "target": "/data", "volume": {"nocopy": True}}
    assert data in SERVICES["s3"]["volumes"]


def test_the_certificates_can_be_removed_as_the_documentation_says() -> None:
    """Docker keeps a volume as long as a container uses it, even if the container has ended."""
    page = (REPOSITORY / "docs" / "operations.md").read_text()
    [removed] = re.findall(
        r"`docker compose rm --stop --force (.+?)`, then `docker volume rm .+_s3-security`", page
    )
    assert set(removed.split()) == {name for name in SERVICES if "s3-security" in mounts(SERVICES[name])}


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_tmp_is_private_to_each_container(name: str) -> None:
    """In a shared /tmp, another service could create a file with a predictable name first."""
    assert "/tmp" not in mounts(SERVICES[name]).values()  # noqa: S108
    assert "/tmp" not in str(SERVICES[name].get("environment", {}))  # noqa: S108
