"""What a local stack keeps between starts: credentials and ports."""

from __future__ import annotations

import base64
import json
import secrets
import shutil
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.stack import ports
from include.stack.errors import StackError
from include.stack.private_files import hold_lock, make_private_folder, write_private
from include.stack.s3 import S3Ports
from include.stack.s3_identities import Keys, Role

if TYPE_CHECKING:
    from collections.abc import Mapping

NEEDED_GB = 2.0

USERNAME = "admin"
"""The user of Airflow's UI and API."""


@dataclass(frozen=True)
class Credentials:
    """The secrets of one stack except its model keys."""

    identity: str
    """Distinguishes the stacks of one machine; not secret."""
    postgres_password: str
    """Password of PostgreSQL's superuser."""
    airflow_db_password: str
    """Password of the role `airflow`, which owns Airflow's own database."""
    training_db_password: str
    """Password of the role that owns the training database (TRAINING_OWNER)."""
    training_app_db_password: str
    """Password of the role that reads and writes the rows of the training database (TRAINING_APPLICATION)."""
    s3_access_key: str
    """Access key of Role.OWNER."""
    s3_secret_key: str
    """Secret key of Role.OWNER."""
    s3_worker_access_key: str
    """Access key of Role.WORKER."""
    s3_worker_secret_key: str
    """Secret key of Role.WORKER."""
    s3_api_access_key: str
    """Access key of Role.API."""
    s3_api_secret_key: str
    """Secret key of Role.API."""
    s3_maintenance_access_key: str
    """Access key of Role.MAINTENANCE."""
    s3_maintenance_secret_key: str
    """Secret key of Role.MAINTENANCE."""
    airflow_password: str
    """Password of USERNAME for Airflow's UI and REST API."""
    airflow_fernet_key: str
    """Encrypts connections and Variables in Airflow's database: 32 bytes in URL-safe base64."""
    airflow_jwt_secret: str
    """Signs the tokens of users and tasks for Airflow's APIs."""
    airflow_secret_key: str
    """Signs browser sessions of the UI (`[api] secret_key`)."""

    @classmethod
    def generate(cls) -> Credentials:
        """Generate new credentials, which are URL-safe and need no quotes in a shell or a configuration."""
        generated = {field.name: secrets.token_urlsafe(24).replace("-", "x") for field in fields(cls)}
        generated["identity"] = secrets.token_hex(8)
        generated["airflow_fernet_key"] = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
        generated["airflow_jwt_secret"] = secrets.token_hex(64)
        return cls(**generated)

    @property
    def s3_keys(self) -> dict[Role, Keys]:
        """The keys of each role of S3; the owner's are called `s3_access_key` and `s3_secret_key`."""
        prefixes = {role: "s3" if role is Role.OWNER else f"s3_{role}" for role in Role}
        return {
            role: Keys(getattr(self, f"{prefix}_access_key"), getattr(self, f"{prefix}_secret_key"))
            for role, prefix in prefixes.items()
        }


@dataclass(frozen=True)
class StackPorts:
    """The ports of one stack. They stay the same until another program takes one of them."""

    postgres: int
    """TCP port of PostgreSQL."""
    airflow: int
    """HTTP port of Airflow's API server."""
    s3: S3Ports
    """The ports of the S3 server's parts."""

    @classmethod
    def choose(cls) -> StackPorts:
        """Choose free ports."""
        return cls(postgres=ports.choose(), airflow=ports.choose(), s3=S3Ports.choose())

    def list_numbers(self) -> set[int]:
        """Return all port numbers."""
        return {self.postgres, self.airflow} | self.s3.list_numbers()


@dataclass(frozen=True)
class StateFolder:
    """The folder that contains all files of one stack, such as `.stack/` in the repository."""

    path: Path
    """Path of the folder."""

    @property
    def credentials_file(self) -> Path:
        """The file with the credentials, readable only by its owner."""
        return self.path / "credentials"

    @property
    def next_credentials_file(self) -> Path:
        """The file that holds the new credentials while they replace the stored ones."""
        return self.path / "credentials.next"

    @property
    def ports_file(self) -> Path:
        """The file with the ports by service, as JSON."""
        return self.path / "ports"

    def prepare(self) -> None:
        """Create the folder; other accounts, such as PostgreSQL's, can traverse it but not list it."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.path.chmod(0o711)
        except OSError as error:
            raise StackError(f"{self.path} cannot be used for the stack's data: {error.strerror}.") from error

    def lock(self) -> AbstractContextManager[None]:
        """Allow one start, stop or rotation of the stack at a time."""
        return hold_lock(self.path / "lock")

    def check_disk(self) -> None:
        """Raise StackError unless the disk has enough space for the servers."""
        free = shutil.disk_usage(self.path).free / 1e9
        if free < NEEDED_GB:
            raise StackError(
                f"{self.path} has {free:.1f} GB of free disk space; the servers need {NEEDED_GB:.0f} GB. "
                "Free up space, then try again."
            )

    def make_private(self, name: str) -> Path:
        """Create a subfolder that only its owner can access, and return its path."""
        return make_private_folder(self.path / name)

    def exists(self) -> bool:
        """Return whether a stack was ever started from this folder. Some of its files may be missing."""
        pid_files = (self.path / "pids").glob("*.pid")
        return self.credentials_file.exists() or self.ports_file.exists() or any(pid_files)

    def load_credentials(self) -> Credentials:
        """Return the stored credentials, generating those that are missing. Raises StackError."""
        stored = _load(self.credentials_file) if self.credentials_file.exists() else {}
        complete = asdict(Credentials.generate()) | stored
        if complete != stored:
            write_private(self.credentials_file, json.dumps(complete, indent=2) + "\n")
        return _parse_credentials(self.credentials_file, complete)

    def prepare_next_credentials(self) -> Credentials:
        """Return the credentials that will replace the stored ones, generating them if necessary."""
        if not self.next_credentials_file.exists():
            replacing = replace(Credentials.generate(), identity=self.load_credentials().identity)
            write_private(self.next_credentials_file, json.dumps(asdict(replacing), indent=2) + "\n")
        return _parse_credentials(self.next_credentials_file, _load(self.next_credentials_file))

    def adopt_next_credentials(self) -> None:
        """Replace the stored credentials with the next ones."""
        self.next_credentials_file.replace(self.credentials_file)

    def load_ports(self) -> StackPorts:
        """Return the stored ports, choosing and storing free ones if necessary. Raises StackError."""
        if not self.ports_file.exists():
            self.store_ports(StackPorts.choose())
        stored = _load(self.ports_file)
        try:
            found = StackPorts(stored["postgres"], stored["airflow"], S3Ports(**stored["s3"]))
            numbers = all(isinstance(port, int) for port in found.list_numbers())
        except (KeyError, TypeError) as error:
            raise _describe_damage(self.ports_file, "does not name the port of each service") from error
        if not numbers:
            raise _describe_damage(self.ports_file, "has a port that is not a number")
        return found

    def store_ports(self, chosen: StackPorts) -> None:
        """Store these ports for the next start."""
        write_private(self.ports_file, json.dumps(asdict(chosen), indent=2) + "\n")


@dataclass(frozen=True)
class StoppingState(StateFolder):
    """The folder of a stack that has to be stopped, even if its files are damaged.

    Stopping a process requires only its pid file. Therefore credentials and ports that cannot be read are
    replaced by new ones, which are not stored.
    """

    def load_credentials(self) -> Credentials:
        """Return the stored credentials, or new ones if they cannot be read."""
        try:
            return super().load_credentials()
        except StackError:
            return Credentials.generate()

    def load_ports(self) -> StackPorts:
        """Return the stored ports, or free ones if they cannot be read."""
        try:
            return super().load_ports()
        except StackError:
            return StackPorts.choose()


def _parse_credentials(file: Path, stored: Mapping[str, Any]) -> Credentials:
    found = {field.name: stored.get(field.name) for field in fields(Credentials)}
    if lacking := [name for name, value in found.items() if not value or not isinstance(value, str)]:
        raise _describe_damage(file, f"has no {lacking[0]}")
    return Credentials(**{name: str(value) for name, value in found.items()})


def _load(file: Path) -> dict[str, Any]:
    try:
        loaded = json.loads(file.read_text())
    except ValueError as error:
        raise _describe_damage(file, f"is not readable as JSON ({error})") from error
    if not isinstance(loaded, dict):
        raise _describe_damage(file, "is not a JSON object")
    return loaded


def _describe_damage(file: Path, problem: str) -> StackError:
    return StackError(
        f"{file} {problem}. Restore it, or run `make down` and remove {file.parent} to start over without "
        "its data."
    )
