"""Tests the pages in Chromium as people use them; a problem in the browser's console fails the test.

The machine must have a browser: the first of `chromium-headless-shell`, `chromium`, `chromium-browser` and
`google-chrome` on the PATH, or the one that the environment variable CHROMIUM names. Without a browser, the
tests that need it are skipped, and listed at the end of the run.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Error,
    FrameLocator,
    Locator,
    Page,
    Request,
    Response,
    expect,
    sync_playwright,
)
from playwright.sync_api import (
    TimeoutError as NotInTime,
)

from include.stack.local import Stack
from tests.support.api_client import log_in_over_rest, token
from tests.support.missing_programs import SystemProgram
from tests.support.recorded_trainings import FORGOTTEN_RUN

CONSOLE = "/training/console"
API = "/training/api/v1"

_PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    "--no-sandbox",  # root cannot use the sandbox, and continuous integration often runs as root
    "--no-proxy-server",
    "--no-first-run",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
)
_TIMEOUT = 90_000.0
"""The time in milliseconds after which an expected element counts as missing."""


def program() -> str | None:
    """Return the path of this machine's browser, if it has one."""
    named = os.environ.get("CHROMIUM")
    return next(filter(None, map(shutil.which, [named] if named else _PROGRAMS)), None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """If there is no browser, skip the tests that need it before they start any service."""
    _chromium().leave_out(items)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List the skipped tests."""
    _chromium().name_what_was_left_out(terminalreporter)


def _chromium() -> SystemProgram:
    return SystemProgram(
        name="Chromium",
        looked_for=os.environ.get("CHROMIUM") or ", ".join(_PROGRAMS),
        path=program(),
        fixture="chromium",
        package="chromium-headless-shell",
    )


@dataclass
class Visitor:
    """A person with their own page. `url` is the address of Airflow, `s3` the address of downloads.

    `problems` are the messages that the person would find in the browser's console.
    """

    page: Page
    url: str
    s3: str
    problems: list[str] = field(default_factory=list)
    _expected: list[tuple[int, str]] = field(default_factory=lambda: [(404, FORGOTTEN_RUN)])
    _unreachable: bool = False

    def open(self, path: str) -> Page:
        """Open a page of the console outside Airflow's UI, such as `jobs?status=running`."""
        self.page.goto(f"{self.url}{CONSOLE}/{path}")
        return self.page

    def open_in_airflow(self, path: str = "") -> FrameLocator:
        """Open a page of the console inside Airflow's UI."""
        shown = f"{urlsplit(self.url).path}{CONSOLE}/{path}" if path else ""
        self.page.goto(f"{self.url}/plugin/trainings{shown}")
        return self.frame

    @property
    def frame(self) -> FrameLocator:
        """Return the frame in which Airflow shows the console."""
        return self.page.frame_locator("iframe")

    def expects(self, status: int, path: str) -> None:
        """Accept from now on that requests whose URL contains `path` are answered with `status`."""
        self._expected.append((status, path))

    def lose_form(self) -> None:
        """Answer the next request for the parameters of a Dag with 503.

        Pages also retry by themselves, but only after a minute.
        """
        self.expects(503, "/details")
        later = {"Retry-After": "60"}
        self.page.route("**/details", lambda route: route.fulfill(status=503, headers=later), times=1)

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Accept all failed requests within the block."""
        self._unreachable = True
        yield
        self.page.evaluate("0")  # so that all events up to now are recorded
        self._unreachable = False

    def download(self, link: Locator, to: Path) -> Path:
        """Click the link, and save the download in the folder `to` under the browser's suggested name."""
        with self.page.expect_download() as started:
            link.click()
        path = to / started.value.suggested_filename
        started.value.save_as(path)
        return path

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> int:
        """Return the status that a script running in the person's page would get."""
        script = "async ([url, options]) => (await fetch(url, options)).status"
        options: dict[str, Any] = {"method": method}
        if body is not None:
            options |= {"body": json.dumps(body), "headers": {"Content-Type": "application/json"}}
        return int(self.page.evaluate(script, [f"{self.url}{path}", options]))

    def barriers(self) -> list[str]:
        """Return the serious and critical accessibility problems that axe-core finds on the current page."""
        found = Axe().run(self.page).response["violations"]
        return [
            f"{each['id']}: {node['html']} {node['failureSummary']}"
            for each in found
            for node in each["nodes"]
            if each["impact"] in {"serious", "critical"}
        ]

    def wider_than_the_screen(self) -> bool:
        """Return whether the page scrolls sideways."""
        return bool(
            self.page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
        )

    def leave(self) -> None:
        """Close the page, repeating the request until the page is closed.

        Chromium forgets the request during a navigation (crbug.com/536385539), and Playwright would wait
        forever (github.com/microsoft/playwright/issues/42068).
        """
        self.page.on("dialog", lambda dialog: dialog.accept())  # about an incomplete upload
        while not self.page.is_closed():
            with suppress(NotInTime), self.page.expect_event("close", timeout=1000):
                self.page.close(run_before_unload=True)  # returns before the page is closed

    def watch(self) -> None:
        """Record all problems of the page."""
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.problems.append(f"uncaught: {error}"))
        self.page.on("request", self._on_request)
        self.page.on("response", self._on_response)
        self.page.on("requestfailed", self._on_failed_request)

    def _on_console(self, message: ConsoleMessage) -> None:
        url = message.location["url"]
        loading = message.text.startswith("Failed to load resource")
        if message.type == "error" and not (loading and self._is_expected(None, url)):
            self.problems.append(f"console: {message.text} ({url})")

    def _on_request(self, request: Request) -> None:
        scheme, host = urlsplit(request.url)[:2]
        own = f"{scheme}://{host}" == self.url[: len(f"{scheme}://{host}")] or scheme in {"blob", "data"}
        # The target of a redirect that is not followed (redirect: "manual") is reported, but not requested.
        to_file = request.is_navigation_request() or request.redirected_from is not None
        sent = request.method in {"PUT", "OPTIONS"} and "/uploads/" in request.url
        saved = request.url.startswith(f"{self.s3}/") and (to_file or sent)
        if not own and not saved:
            self.problems.append(f"requested from another host: {request.url}")

    def _on_response(self, response: Response) -> None:
        if response.status >= 400 and not self._is_expected(response.status, response.url):
            self.problems.append(f"{response.status} {response.request.method} {response.url}")

    def _on_failed_request(self, request: Request) -> None:
        # A request is aborted if the page was left, or if the answer was a download.
        if request.failure != "net::ERR_ABORTED" and not self._unreachable:
            self.problems.append(f"{request.failure} {request.method} {request.url}")

    def _is_expected(self, status: int | None, url: str) -> bool:
        return self._unreachable or any(
            part in url and status in {None, expected} for expected, part in self._expected
        )


@dataclass
class Visitors:
    """Opens pages for people; people with the same role share a browser context with login and files."""

    browser: Browser
    stack: Stack
    _browsers: dict[str, BrowserContext] = field(default_factory=dict)
    _present: list[Visitor] = field(default_factory=list)
    _of_one_test: list[BrowserContext] = field(default_factory=list)

    def __call__(
        self,
        role: str | None = "admin",
        *,
        apart: bool = False,
        url: str = "",
        width: int = 1280,
        height: int = 900,
    ) -> Visitor:
        """Return a logged-in person with the role; for None, a person in a new context without a login.

        With `apart`, the person has a new context, too, so that no other page sees what their pages store.
        """
        url = url or self.stack.url
        context = self._alone(role) if apart or role is None else self._known(role)
        visitor = Visitor(context.new_page(), url, self.stack.s3.endpoint_url)
        visitor.page.set_viewport_size({"width": width, "height": height})
        visitor.watch()
        self._present.append(visitor)
        return visitor

    def leave(self) -> None:
        """Close all pages; fail if any page had a problem."""
        problems = []
        for visitor in self._present:
            visitor.page.wait_for_timeout(50)  # so that all events up to now are recorded
            problems += visitor.problems
            visitor.leave()
        for context in self._of_one_test:
            context.close()
        self._present, self._of_one_test = [], []
        assert not problems, "\n".join(problems)

    def close(self) -> None:
        """Close the contexts of all roles."""
        for context in self._browsers.values():
            context.close()

    def _alone(self, role: str | None) -> BrowserContext:
        self._of_one_test.append(self._new(role))
        return self._of_one_test[-1]

    def _known(self, role: str) -> BrowserContext:
        if role not in self._browsers:
            self._browsers[role] = self._new(role)
        return self._browsers[role]

    def _new(self, role: str | None) -> BrowserContext:
        # Certificates are self-signed here, and animations would cost processor time.
        context = self.browser.new_context(ignore_https_errors=True, reduced_motion="reduce")
        context.set_default_timeout(_TIMEOUT)
        if role is not None:
            # Airflow's login form takes seconds, so only `log_in` uses it, for tests of the login itself.
            bearer = log_in_over_rest(self.stack) if role == "admin" else token(self.stack, role)
            cookie = {"name": "_token", "value": bearer, "url": self.stack.url}
            context.add_cookies([cookie])  # type: ignore[list-item]
        return context


def log_in(visitor: Visitor, stack: Stack) -> None:
    """Log in as an administrator through Airflow's login form."""
    visitor.expects(401, "/ui/")  # how Airflow's UI finds out that nobody is logged in
    visitor.page.goto(visitor.url)
    visitor.page.get_by_label("Username").fill(stack.username)
    visitor.page.locator("input[type=password]").fill(stack.password)
    visitor.page.get_by_role("button", name="Sign in").click()
    expect(visitor.page.get_by_role("link", name="Dags").first).to_be_visible()


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Open a browser; while it is open, the tests of this process cannot use asyncio."""
    executable = program()
    assert executable is not None
    expect.set_options(timeout=_TIMEOUT)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(OPTIONS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Yield a browser for the tests of one file; the files of tests/console share one."""
    with open_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def visitors(chromium: Browser, request: pytest.FixtureRequest) -> Iterator[Visitors]:
    """Yield the visitors for one file's tests; they use the Airflow that these tests share."""
    from tests.support.distribution import airflow_of  # here, because pytest must load this plugin first

    visitors = Visitors(chromium, request.getfixturevalue(airflow_of(str(request.path)) or "api_stack"))
    yield visitors
    visitors.close()


@pytest.fixture
def visit(visitors: Visitors) -> Iterator[Visitors]:
    """Yield the visitors, and fail afterwards if a page had a problem."""
    yield visitors
    try:
        visitors.leave()
    except Error as error:
        pytest.fail(f"the browser stopped responding: {error}")
