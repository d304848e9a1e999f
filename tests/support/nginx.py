"""A real nginx with the documented configuration in front of a real API server.

The machine must have nginx, on the PATH, in /usr/sbin, or where the environment variable NGINX says. Without
nginx, the tests that need it are skipped, and listed at the end of the run.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from include.stack import processes
from include.stack.local import Stack
from include.stack.ports import LOOPBACK, choose
from include.stack.processes import Service
from tests.support.api_servers import another_api_server, base_url_of, port_of
from tests.support.certificates import certify
from tests.support.missing_programs import SystemProgram

CONFIGURATION = Path(__file__).parents[2] / "config" / "nginx.conf"
NAME = "localhost"
HEAD_SECONDS = 2
"""Less than the configured 10 s, because the API server itself also waits only 10 s."""

_PROGRAM = os.environ.get("NGINX") or "nginx"
_NGINX = SystemProgram(
    name="nginx",
    looked_for=_PROGRAM,
    path=shutil.which(_PROGRAM, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"),
    fixture="nginx",
    package="nginx-light",
)

_MAIN = """
daemon off;
pid {folder}/nginx.pid;
error_log stderr;
worker_processes 1;
events {{ worker_connections 4096; }}
http {{
    client_body_temp_path {folder}/body;
    access_log off;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/airflow.conf;
}}
"""


@dataclass(frozen=True)
class Nginx:
    """A running nginx. `url` is Airflow's address, `plain_url` the address without TLS.

    `certificate` is the file to trust, and `api_log` is the log of the API server behind nginx.
    """

    url: str
    plain_url: str
    certificate: Path
    api_log: Path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """If there is no nginx, skip the tests that need it before they start any service."""
    _NGINX.leave_out(items)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List the skipped tests."""
    _NGINX.name_what_was_left_out(terminalreporter)


@pytest.fixture(scope="module")
def proxied(api_stack: Stack) -> Iterator[Service]:
    """Yield a separate API server for an nginx in front of it, whose address is the server's base URL."""
    url = f"https://{NAME}:{choose()}"
    with another_api_server(api_stack, "api-server-behind-nginx", url, "--proxy-headers") as service:
        yield service


@pytest.fixture(scope="module")
def nginx(api_stack: Stack, proxied: Service) -> Iterator[Nginx]:
    """Yield an nginx in front of a separate API server."""
    url = base_url_of(proxied)
    plain, tls = choose(), urlsplit(url).port
    folder = Path(tempfile.mkdtemp(prefix="yolo-training-nginx-"))
    folder.chmod(0o777)  # nginx runs under another account if the tests run as root
    try:
        certificate, key = certify(NAME, folder)
        key.chmod(0o644)  # readable by the account of nginx
        replaced = {
            "127.0.0.1:8080": f"{LOOPBACK}:{port_of(proxied)}",
            "airflow.example.org": NAME,
            "listen 80": f"listen {LOOPBACK}:{plain}",
            "listen 443": f"listen {LOOPBACK}:{tls}",
            "/etc/nginx/tls/fullchain.pem": str(certificate),
            "/etc/nginx/tls/privkey.pem": str(folder / "key.pem"),
            "/var/log/nginx/airflow.log": str(folder / "access.log"),
            "client_header_timeout 10s": f"client_header_timeout {HEAD_SECONDS}s",
        }
        service = _configure(folder, replaced, api_stack)
        processes.start(service)
        try:
            processes.wait_until_ready(service, (folder / "nginx.pid").exists, 30)
            yield Nginx(url, f"http://{NAME}:{plain}", certificate, proxied.log)
        finally:
            processes.stop(service)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _configure(folder: Path, replaced: dict[str, str], stack: Stack) -> Service:
    text = CONFIGURATION.read_text(encoding="utf-8")
    for old, new in replaced.items():
        assert old in text, old
        text = text.replace(old, new)
    (folder / "airflow.conf").write_text(text, encoding="utf-8")
    (folder / "nginx.conf").write_text(_MAIN.format(folder=folder), encoding="utf-8")
    assert _NGINX.path is not None
    return Service(
        name="nginx",
        command=(_NGINX.path, "-e", "stderr", "-c", str(folder / "nginx.conf")),
        environment={"PATH": os.environ.get("PATH", os.defpath)},
        directory=folder,
        state=stack.state.path,
        user="nobody" if os.getuid() == 0 else None,
    )
