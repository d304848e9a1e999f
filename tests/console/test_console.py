"""The files of the pages on the real API server: access to them, their headers, and their content."""

from __future__ import annotations

import importlib.util
import re
from hashlib import sha256
from pathlib import Path
from types import ModuleType

import pytest
import requests
from fastapi.routing import APIRoute

from include.console import PREFIX
from include.console.app import MEDIA_TYPES, PAGES, STATIC, compute_version, create_app, list_served_files
from include.console.derive_types import TYPES, derive
from include.stack.local import Stack
from include.stack.ports import open_session
from tests.support.api_client import token

pytestmark = pytest.mark.timeout(600)

VENDOR = STATIC / "vendor"
FILES = list_served_files()
OUR_OWN = {name: path for name, path in FILES.items() if not name.startswith("vendor/")}


def get(stack: Stack, path: str, who: str | None = "viewer", **headers: str) -> requests.Response:
    """GET a path below the console as that role, or without a login if `who` is None."""
    if who is not None:
        headers["Authorization"] = f"Bearer {token(stack, None if who == 'without a role' else who)}"
    with open_session() as session:
        request = requests.Request("GET", f"{stack.url}{PREFIX}/", headers=headers).prepare()
        request.url = f"{stack.url}{PREFIX}/{path}"  # set last, because preparing a URL would resolve `..`
        return session.send(request, timeout=60, allow_redirects=False)


def test_only_pages_and_files_are_served() -> None:
    served = {route.path for route in create_app().routes if isinstance(route, APIRoute)}
    assert served == {"/", "/static/{version}/{name:path}", *(f"/{page}" for page in PAGES)}
    assert len(create_app().routes) == len(served)


@pytest.mark.parametrize(
    "page", ["", *PAGES, "nowhere", "openapi.json", "docs", "static/", "static/current/"]
)
def test_a_page_is_served_only_after_a_login(api_stack: Stack, page: str) -> None:
    assert get(api_stack, page, None).status_code == 401


@pytest.mark.parametrize("name", [*FILES, "vendor/README.md", "vendor/LICENSE-htm", "nowhere.js"])
def test_nobody_gets_a_file_without_a_login(api_stack: Stack, name: str) -> None:
    answer = get(api_stack, f"static/{compute_version(FILES)}/{name}", None)
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_served_as_html(api_stack: Stack, page: str) -> None:
    answer = get(api_stack, page)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_served_unchanged(api_stack: Stack, name: str) -> None:
    answer = get(api_stack, f"static/current/{name}")
    assert answer.content == FILES[name].read_bytes()
    assert answer.headers["content-type"].split(";")[0] == MEDIA_TYPES[FILES[name].suffix]
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    [
        "static/current/vendor/README.md",
        "static/current/nowhere.js",
        "static/current/../app.py",
        "static/current/%2e%2e/app.py",
        "static/current//etc/passwd",
        "static/current/pages",
        "job/x",
        "openapi.json",
    ],
)
def test_other_paths_are_not_found(api_stack: Stack, path: str) -> None:
    answer = get(api_stack, path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert "listed in openapi.json" not in answer.json()["detail"]


def test_the_first_page_is_the_list(api_stack: Stack) -> None:
    answer = get(api_stack, "")
    assert (answer.status_code, answer.headers["location"]) == (307, "jobs")


@pytest.mark.parametrize(
    ("path", "who"),
    [("jobs", "viewer"), ("jobs", None), ("nowhere", "viewer"), ("static/current/h.js", "viewer")],
)
def test_every_response_has_the_security_headers(api_stack: Stack, path: str, who: str | None) -> None:
    headers = get(api_stack, path, who).headers
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["base-uri"] == "'none'"
    assert policy["frame-ancestors"] == policy["form-action"] == "'self'"
    assert {policy[kind] for kind in ("script-src", "style-src", "img-src", "connect-src")} == {"'self'"}
    assert set(policy.values()) <= {"'none'", "'self'", "'script'"}
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"


@pytest.mark.parametrize("page", ["datasets", "dataset"])
def test_a_page_that_uploads_may_connect_to_s3_and_to_nothing_else(api_stack: Stack, page: str) -> None:
    usual = get(api_stack, "jobs").headers["content-security-policy"]
    own = get(api_stack, page).headers["content-security-policy"]
    s3 = api_stack.s3.endpoint_url
    assert own == usual.replace("connect-src 'self'", f"connect-src 'self' {s3}")
    assert s3 not in get(api_stack, page, None).headers["content-security-policy"]


def test_a_person_without_a_login_gets_a_readable_page(api_stack: Stack) -> None:
    answer = get(api_stack, "jobs", None, Accept="text/html,*/*;q=0.8")
    assert answer.status_code == 401
    assert answer.headers["content-type"].startswith("text/html")
    assert "Log in to Airflow" in answer.text


def test_browsers_revalidate_a_page_and_cache_its_files(api_stack: Stack) -> None:
    page = get(api_stack, "jobs")
    assert page.headers["cache-control"] == "private, no-cache"
    again = get(api_stack, "jobs", **{"If-None-Match": page.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    for address in re.findall(r'(?:href|src)="(static/[^"]+)"', page.text):
        file = get(api_stack, address)
        assert file.status_code == 200, address
        assert file.headers["cache-control"] == "private, max-age=31536000, immutable"


def test_a_file_of_another_version_is_never_cached(api_stack: Stack) -> None:
    file = get(api_stack, "static/0123456789abcdef/h.js")
    assert file.headers["cache-control"] == "private, no-cache"
    again = get(api_stack, "static/0123456789abcdef/h.js", **{"If-None-Match": file.headers["etag"]})
    assert again.status_code == 304


def test_a_page_names_all_its_modules_and_styles_so_that_they_load_in_parallel(api_stack: Stack) -> None:
    page = get(api_stack, "job").text
    for name in FILES:
        if not name.endswith(".svg") and (not name.startswith("pages/") or name == "pages/job.js"):
            assert f"/{name}" in page, name


def test_a_changed_set_of_files_has_another_version(tmp_path: Path) -> None:
    assert compute_version(FILES) == compute_version(list_served_files())
    assert compute_version({name: path for name, path in FILES.items() if name != "h.js"}) != compute_version(
        FILES
    )


@pytest.mark.parametrize("name", OUR_OWN)
def test_our_own_files_do_not_name_other_hosts(name: str) -> None:
    text = OUR_OWN[name].read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"(?:https?|wss?):|[\"'(]//", text)


@pytest.mark.parametrize("name", [name for name in OUR_OWN if name.endswith(".js")])
def test_a_module_is_short_and_imports_existing_files(name: str) -> None:
    text = OUR_OWN[name].read_text(encoding="utf-8")
    assert text.startswith("// @ts-check\n")
    assert text.count("\n") < 250
    assert max(map(len, text.splitlines())) <= 120
    for imported in re.findall(r'from "(\.[^"]+)"', text):
        assert (OUR_OWN[name].parent / imported).resolve() in FILES.values(), imported
    for unsafe in (
        "innerHTML",
        "dangerouslySetInnerHTML",
        "eval(",
        "new Function",
        "alert(",
        "confirm(",
        "_blank",
    ):
        assert unsafe not in text


def test_the_types_of_responses_are_those_of_the_api() -> None:
    assert TYPES.read_text(encoding="utf-8") == derive(), "run python -m include.console.derive_types"


def test_vendored_libraries_are_unchanged() -> None:
    listed = dict(
        re.findall(
            r"^\| \[(\S+)\]\(\S+\) \|.*`(\w{64})` \|$", (VENDOR / "README.md").read_text(), re.MULTILINE
        )
    )
    found = {path.name: sha256(path.read_bytes()).hexdigest() for path in VENDOR.iterdir()}
    del found["README.md"]
    assert listed == found


@pytest.mark.parametrize(
    ("base_url", "path"), [("http://localhost:8080", ""), ("https://host/some/airflow/", "/some/airflow")]
)
def test_airflow_shows_the_pages_below_its_base_url(
    monkeypatch: pytest.MonkeyPatch, base_url: str, path: str
) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", base_url)
    menu, datasets, tab = _plugin().TrainingConsole().external_views
    assert (menu["destination"], menu["href"]) == ("nav", f"{path}/training/console/jobs")
    assert (datasets["destination"], datasets["href"]) == ("nav", f"{path}/training/console/datasets")
    assert tab["destination"] == "dag_run"
    assert tab["href"] == f"{path}/training/console/run?dag_id={{DAG_ID}}&run_id={{RUN_ID}}"
    for view in (menu, datasets, tab):
        for icon in (view["icon"], view["icon_dark_mode"]):
            assert icon.removeprefix(f"{path}/training/console/static/current/") in FILES


def _plugin() -> ModuleType:
    path = Path(__file__).parents[2] / "plugins" / "training_console.py"
    spec = importlib.util.spec_from_file_location("training_console_of_a_test", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
