"""nginx as configured in docs/deployment.md: requests that it must stop, and features that must work.

The last test stops the API server behind nginx, because each start of another one takes ten seconds.
"""

from __future__ import annotations

import re
import signal
import ssl
from contextlib import closing
from typing import Any

import psutil
import pytest
import requests
from playwright.sync_api import expect

from include.api.app import PREFIX
from include.jobs.repository import JobRepository
from include.stack import processes
from include.stack.local import Stack
from include.stack.ports import LOOPBACK, open_session
from include.stack.processes import Service
from tests.support.api_client import token
from tests.support.api_servers import port_of
from tests.support.browsing import Visitors, log_in
from tests.support.event_streams import Listener, epochs
from tests.support.jobs import epoch_report
from tests.support.nginx import HEAD_SECONDS, Nginx
from tests.support.raw_http import connect, head
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(600)

SPOOFED = "203.0.113.77"


def _ask(nginx: Nginx, method: str, path: str, **options: Any) -> requests.Response:
    with open_session() as session:
        url = path if "://" in path else f"{nginx.url}{path}"
        return session.request(
            method, url, verify=str(nginx.certificate), timeout=60, allow_redirects=False, **options
        )


def test_a_request_header_without_an_end_is_cut_off(nginx: Nginx) -> None:
    with connect(nginx.url, trusted=nginx.certificate) as connection:
        connection.send("GET / HTTP/1.1\r\nHost: localhost\r\n")
        assert connection.closed_within(HEAD_SECONDS + 5)


def test_a_body_without_an_end_is_refused(nginx: Nginx) -> None:
    for path, announced in (
        (f"{PREFIX}/jobs/a/completion", 65_537),
        ("/auth/token", 65_537),
        ("/api/v2/dags/train_yolo/dagRuns", 10 * 1024 * 1024 + 1),
    ):
        with connect(nginx.url, trusted=nginx.certificate) as connection:
            connection.send(head("POST", path, Content_Length=announced))
            assert connection.answer().status == 413, path


def test_events_are_passed_on_immediately(nginx: Nginx, api_stack: Stack, running_job: JobRepository) -> None:
    address = f"{nginx.url}{PREFIX}/jobs/a/events"
    bearer = token(api_stack, "viewer")
    with closing(Listener(address, bearer=bearer, trusted=nginx.certificate)) as stream:
        assert epochs(stream.until("epoch")) == [0]
        for epoch in (1, 2):  # each is read before the next one is recorded
            running_job.record_epoch("a", "run1", 1, epoch_report(epoch, loss=0.5))
            assert epochs(stream.until("epoch")) == [epoch]


def test_workers_routes_cannot_be_reached_from_outside(nginx: Nginx) -> None:
    assert _ask(nginx, "GET", "/execution/health/ping").status_code == 404


def test_airflow_answers_only_to_its_name_and_only_with_tls(nginx: Nginx) -> None:
    plain = _ask(nginx, "GET", f"{nginx.plain_url}/dags?x=1")
    assert (plain.status_code, plain.headers["location"]) == (301, "https://localhost/dags?x=1")
    with pytest.raises(requests.ConnectionError):
        _ask(nginx, "GET", f"{nginx.plain_url}/dags", headers={"Host": "elsewhere.example"})
    with (
        pytest.raises(ssl.SSLError),
        connect(nginx.url.replace("localhost", LOOPBACK), trusted=nginx.certificate),
    ):
        pass
    assert _ask(nginx, "GET", "/").headers["strict-transport-security"] == "max-age=31536000"


def test_a_client_cannot_choose_its_own_address(nginx: Nginx) -> None:
    spoofed = {"X-Forwarded-For": SPOOFED, "Forwarded": f"for={SPOOFED}", "X-Real-IP": SPOOFED}
    assert _ask(nginx, "GET", "/api/v2/version?who=spoofed", headers=spoofed).status_code == 200
    noted = re.compile(rf"client_addr={re.escape(LOOPBACK)}:0 .*who=spoofed")
    until(lambda: bool(noted.search(nginx.api_log.read_text(encoding="utf-8"))), "the request is in the log")
    assert SPOOFED not in nginx.api_log.read_text(encoding="utf-8")


def test_the_pages_work_behind_nginx(
    visit: Visitors, nginx: Nginx, api_stack: Stack, running_job: JobRepository
) -> None:
    visitor = visit(None, url=nginx.url)
    visitor.expects(404, "/dagRuns/run1")  # the job has only a row, and no run in Airflow
    log_in(visitor, api_stack)
    frame = visitor.open_in_airflow("jobs")
    frame.get_by_role("link", name="a", exact=True).click()
    bar = frame.get_by_role("progressbar", name="Progress", exact=True)
    expect(bar).to_have_attribute("aria-valuenow", "1")
    running_job.record_epoch("a", "run1", 1, epoch_report(1, loss=0.5))
    expect(bar).to_have_attribute("aria-valuenow", "2")


def test_only_logins_are_slowed_down(nginx: Nginx, api_stack: Stack) -> None:
    right = {"username": api_stack.username, "password": api_stack.password}

    def attempt() -> int:
        return _ask(nginx, "POST", "/auth/token", json=right).status_code

    assert [attempt() for _ in range(8)] == [201] * 8
    # Every six seconds another login is allowed, so a slow machine may get a few more.
    assert next(status for _ in range(100) if (status := attempt()) != 201) == 429
    assert _ask(nginx, "GET", "/auth/login").status_code == 200
    assert _ask(nginx, "GET", "/api/v2/version").status_code == 200


def test_an_api_server_that_stops_does_not_wait_for_streams(
    proxied: Service, api_stack: Stack, running_job: JobRepository
) -> None:
    server = processes.find_process(proxied)
    assert server is not None
    address = f"http://{LOOPBACK}:{port_of(proxied)}{PREFIX}/jobs/a/events"
    with closing(Listener(address, bearer=token(api_stack, "viewer"))) as stream:
        assert epochs(stream.until("epoch")) == [0]
        server.send_signal(signal.SIGTERM)
        assert list(stream) == []
        ended, _ = psutil.wait_procs([server], timeout=60)  # half of its timeout for open streams
        assert ended == [server]
