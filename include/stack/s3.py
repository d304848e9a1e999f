"""SeaweedFS from PyPI: an S3 server that checks signatures, in one process."""

from __future__ import annotations

import signal
import sysconfig
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from include.stack import ports, processes
from include.stack.certificates import prepare_certificates
from include.stack.errors import StackError
from include.stack.ports import GRPC_OFFSET, LOOPBACK
from include.stack.private_files import make_private_folder, write_private
from include.stack.processes import Service
from include.stack.s3_identities import Role, render_identities

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CORSRuleTypeDef

    from include.stack.s3_identities import Keys

REGION = "us-east-1"
START_SECONDS = 180.0


@dataclass(frozen=True)
class S3Ports:
    """Every port that the server opens; if one were not given, the server would use a well-known default."""

    s3: int
    """HTTP port of the S3 API, the only one that clients use."""
    s3_grpc: int
    """gRPC port of the S3 API's gateway."""
    filer: int
    """HTTP port of the filer, which stores the objects' names."""
    filer_grpc: int
    """gRPC port of the filer."""
    volume: int
    """HTTP port of the volume server, which stores the objects' content."""
    volume_grpc: int
    """gRPC port of the volume server."""
    master: int
    """HTTP port of the master, which assigns objects to volumes."""
    master_grpc: int
    """gRPC port of the master."""
    admin: int
    """HTTP port of the admin server; its gRPC port is GRPC_OFFSET higher."""

    @classmethod
    def choose(cls) -> S3Ports:
        """Choose free ports."""
        return cls(**{field.name: ports.choose(with_grpc=field.name == "admin") for field in fields(cls)})

    def list_numbers(self) -> set[int]:
        """Return all port numbers, including the gRPC port of the admin server."""
        return {getattr(self, field.name) for field in fields(self)} | {self.admin + GRPC_OFFSET}


@dataclass(frozen=True)
class S3:
    """One S3 server."""

    state: Path
    """Folder of the server's data, log and pid file."""
    ports: S3Ports
    """The ports of all parts of the server."""
    keys: Mapping[Role, Keys]
    """The keys of each role."""
    buckets: Sequence[str]
    """Buckets to which the policies apply; the names may contain `*`. The owner may use every bucket."""
    region: str = REGION
    """The region for which clients sign their requests."""

    @property
    def access_key(self) -> str:
        """The owner's access key."""
        return self.keys[Role.OWNER].access_key

    @property
    def secret_key(self) -> str:
        """The owner's secret key."""
        return self.keys[Role.OWNER].secret_key

    @property
    def endpoint_url(self) -> str:
        """The endpoint for any S3 client."""
        return f"http://{LOOPBACK}:{self.ports.s3}"

    def start(self) -> bool:
        """Start the server, or apply changed policies, and wait until it responds.

        Returns False if it was already running.
        """
        before = processes.find_process(self.service)
        if before is None:
            make_private_folder(self._data)
            prepare_certificates(self.security)
        if self._store_identities() and before is not None:
            before.send_signal(signal.SIGHUP)
        process = processes.start(self.service)
        processes.wait_until_ready(self.service, self._answers, START_SECONDS)
        return process != before

    def stop(self) -> bool:
        """Stop the server, and remove its sockets from /tmp. Returns False if it was not running."""
        was_running = processes.stop(self.service)
        for port in filter(ports.is_free, self.ports.list_numbers()):  # another server may use a port by now
            for each in ports.find_grpc_sockets(port):
                each.unlink(missing_ok=True)
        return was_running

    def is_running(self) -> bool:
        """Return whether the server is running."""
        return processes.find_process(self.service) is not None

    def client(self, role: Role = Role.OWNER) -> S3Client:
        """Return a client with the role's keys. Its requests fail immediately if the server is down."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.keys[role].access_key,
            aws_secret_access_key=self.keys[role].secret_key,
            region_name=self.region,
            config=Config(
                retries={"total_max_attempts": 1},
                connect_timeout=5,
                read_timeout=60,
                # A proxy from the environment cannot reach this machine's loopback interface.
                proxies={},
            ),
        )

    def ensure_bucket(self, bucket: str, origins: Sequence[str] = ()) -> None:
        """Create the bucket unless it exists, and let browsers upload to it from pages of `origins`."""
        client = self.client()
        present = {existing["Name"] for existing in client.list_buckets()["Buckets"]}
        if bucket not in present:
            client.create_bucket(Bucket=bucket)
        if origins:
            client.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [_upload_rule(origins)]})

    @property
    def security(self) -> Path:
        """The configuration folder of `weed`, with the certificates for its gRPC and HTTP ports."""
        return self.state / "s3-security"

    @property
    def identities(self) -> Path:
        """The identities file, which the server reads when it starts, and again after SIGHUP."""
        return self.state / "s3-identities.json"

    @property
    def _data(self) -> Path:
        return self.state / "s3"

    def _store_identities(self) -> bool:
        """Write the file of identities. Returns False if it was up to date."""
        content = render_identities({role: [keys] for role, keys in self.keys.items()}, self.buckets)
        if self.identities.exists() and self.identities.read_text() == content:
            return False
        write_private(self.identities, content)
        return True

    @cached_property
    def service(self) -> Service:
        """The server's process."""
        weed = Path(sysconfig.get_path("scripts")) / "weed"
        if not weed.exists():
            raise StackError(
                f"{weed} is missing: the S3 server is part of requirements.txt. Run `make setup`."
            )
        return Service(
            name="s3",
            # The log contains the access key, so it is kept in the private data folder, not in /tmp.
            command=(
                str(weed),
                f"-config_dir={self.security}",
                f"-logdir={self._data}",
                "mini",
                *self._list_options(),
            ),
            # If the environment contained keys, the server would add another administrator.
            environment=processes.build_base_environment("AWS_", "S3_"),
            directory=self._data,
            state=self.state,
        )

    def _list_options(self) -> list[str]:
        """Return every option: for a missing one, `weed mini` would use the value from its last start."""
        listen = self.ports
        options: dict[str, object] = {
            "dir": self._data,
            "ip": LOOPBACK,
            "ip.bind": LOOPBACK,
            "metricsIp": LOOPBACK,
            # Files are accessible only through the S3 API, which requires signatures. The servers behind the
            # API require a certificate.
            "disableHttp": "true",
            # Relative to the data folder. Another account could occupy the default, a path in /tmp.
            "s3.localSocket": "s3.sock",
            "filer.localSocket": "filer.sock",
            "admin.ui": "false",
            "webdav": "false",
            "master.telemetry": "false",
            "s3.port": listen.s3,
            "s3.port.grpc": listen.s3_grpc,
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "s3.config": self.identities,
            # The file of identities alone decides who may do what.
            "s3.iam": "false",
            "filer.port": listen.filer,
            "filer.port.grpc": listen.filer_grpc,
            "volume.port": listen.volume,
            "volume.port.grpc": listen.volume_grpc,
            "master.port": listen.master,
            "master.port.grpc": listen.master_grpc,
            "admin.port": listen.admin,
            "admin.port.grpc": listen.admin + GRPC_OFFSET,
            # Each bucket has its own volumes; the default maximum depends on the free disk space.
            "master.volumeSizeLimitMB": 256,
            "volume.max": 1000,
            "volume.preStopSeconds": 0,
        }
        return [f"-{name}={value}" for name, value in options.items()]

    def _answers(self) -> bool:
        from botocore.exceptions import BotoCoreError, ClientError

        client = self.client()
        try:
            for bucket in client.list_buckets()["Buckets"]:
                # After a restart, objects are listed immediately, but cannot be read until their volumes are
                # back.
                for stored in client.list_objects_v2(Bucket=bucket["Name"], MaxKeys=1).get("Contents", []):
                    client.get_object(Bucket=bucket["Name"], Key=stored["Key"])["Body"].close()
        except (BotoCoreError, ClientError):
            return False
        return True


def _upload_rule(origins: Sequence[str]) -> CORSRuleTypeDef:
    """Return the CORS rule of docs/deployment.md: browsers may upload files, but not read any."""
    return {
        "AllowedOrigins": list(origins),
        "AllowedMethods": ["PUT"],
        "AllowedHeaders": ["content-type", "if-none-match"],
        "MaxAgeSeconds": 3600,
    }
