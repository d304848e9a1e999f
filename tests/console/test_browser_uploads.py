"""Files go from the browser straight to S3, and an interrupted upload continues with the missing parts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, Request, Response, Route, expect

from include.deployment.settings import DEFAULT_BUCKET
from include.limits import UPLOAD_PART
from include.stack.local import Stack
from tests.support import host_applications
from tests.support.browsing import Visitors

pytestmark = pytest.mark.timeout(600)

_SLOW = 120_000.0
"""Milliseconds for 32 MiB on a busy machine."""

_FOR_ALL = {"Access-Control-Allow-Origin": "*"}
"""Without this header, the browser hides the status of S3's response from the page."""


@pytest.fixture(scope="module", autouse=True)
def _tables(api_stack: Stack) -> None:
    host_applications.migrate(api_stack)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """Return a file that is sent in three parts. Whether it is a zip is checked only after the upload."""
    file = tmp_path / "large.zip"
    file.write_bytes(b"PK" + bytes(2 * UPLOAD_PART))
    return file


@pytest.fixture
def signs(tmp_path: Path) -> Path:
    """Return the folder of three small files, which are sent at the same time."""
    folder = tmp_path / "signs"
    for path in ("data.yaml", "images/train/1.jpg", "labels/train/1.txt"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(path.encode())
    return folder


def _send(page: Page, folder: Path, name: str) -> None:
    page.get_by_label("Dataset folder").set_input_files(folder)
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_role("button", name="Upload and check").click()


def _see_the_check(page: Page) -> None:
    """Wait for the page to which a browser goes when an upload's check has been started."""
    page.wait_for_url("**/dataset?*registration=*", wait_until="commit")


def _wait(page: Page, condition: Callable[[], bool]) -> None:
    """Let the page continue until the condition holds, or until the test's time is up."""
    while not condition():
        page.wait_for_timeout(20)


def _stored_at(stack: Stack, completed: Response) -> str:
    """Return the key or prefix of the upload; the response's body is lost when the page navigates."""
    upload_id = completed.url.split("/")[-2]
    source: str = stack.api.call_training_api("GET", f"uploads/{upload_id}")["source"]
    return source.removeprefix(f"s3://{DEFAULT_BUCKET}/")


def test_an_upload_that_a_reload_interrupts_sends_only_what_is_missing(
    visit: Visitors, api_stack: Stack, large: Path
) -> None:
    visitor = visit()
    page = visitor.open("datasets")
    sent: list[str] = []

    def hold(route: Route) -> None:
        """Let the first part pass, and never answer the requests for the other parts."""
        if "partNumber=1&" in route.request.url:
            route.continue_()

    def note(request: Request) -> None:
        if request.method == "PUT":
            sent.append(request.url.partition("partNumber=")[2].partition("&")[0])

    page.route(f"{api_stack.s3.endpoint_url}/**", hold)
    page.get_by_label("Dataset file").set_input_files(large)
    expect(page.get_by_label("Name", exact=True)).to_have_value("large")
    arrives = page.expect_response(lambda each: "partNumber=1&" in each.url and each.ok, timeout=_SLOW)
    with arrives:
        page.get_by_role("button", name="Upload and check").click()
    expect(page.get_by_role("progressbar", name="Upload")).to_be_visible()
    page.on("dialog", lambda dialog: dialog.accept())
    page.reload()
    page.unroute_all()
    page.on("request", note)

    page.get_by_label("Dataset file").set_input_files(large)
    ends = page.expect_response(lambda each: each.url.endswith("/complete"), timeout=_SLOW)
    with ends as completed:
        page.get_by_role("button", name="Upload and check").click()
    assert completed.value.status == 200
    assert sorted(sent) == ["2", "3"]
    key = _stored_at(api_stack, completed.value)
    client = api_stack.s3.client()
    assert client.get_object(Bucket=DEFAULT_BUCKET, Key=key)["Body"].read() == large.read_bytes()


def test_a_folder_is_sent_without_files_that_training_never_reads(
    visit: Visitors, api_stack: Stack, tmp_path: Path
) -> None:
    folder = tmp_path / "signs"
    for path in ("data.yaml", ".DS_Store", "images/train/1.jpg", "labels/train.cache", ".git/config"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(path.encode())
    page = visit().open("datasets")
    page.get_by_label("Dataset folder").set_input_files(folder)
    expect(page.get_by_text("2 files")).to_be_visible()
    page.get_by_label("Name", exact=True).fill("uploads-folder")
    ends = page.expect_response(lambda each: each.url.endswith("/complete"), timeout=_SLOW)
    with ends as completed:
        page.get_by_role("button", name="Upload and check").click()
    prefix = _stored_at(api_stack, completed.value)
    stored = api_stack.s3.client().list_objects_v2(Bucket=DEFAULT_BUCKET, Prefix=prefix)["Contents"]
    names = {item["Key"].removeprefix(prefix) for item in stored}
    assert names == {".upload.json", "data.yaml", "images/train/1.jpg"}


def test_a_missing_name_or_file_is_requested(visit: Visitors, large: Path) -> None:
    page = visit().open("datasets")
    page.get_by_role("button", name="Upload and check").click()
    expect(page.get_by_role("alert")).to_have_text("Choose a .zip, an .ndjson export or a folder first.")
    page.get_by_label("Dataset file").set_input_files(large)
    for name in ("../x", "digits", "coco8.yaml", ""):
        page.get_by_label("Name", exact=True).fill(name)
        page.get_by_role("button", name="Upload and check").click()
        expect(page.get_by_role("alert")).to_contain_text(
            "Enter a name. Name of the dataset: 1 to 128 letters"
        )


def test_nothing_is_uploaded_before_the_page_has_the_rule_for_names(visit: Visitors, large: Path) -> None:
    visitor = visit()
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    details = "**/dags/register_dataset/details"
    visitor.page.route(details, hold, times=1)
    with visitor.page.expect_request(details):
        page = visitor.open("datasets")
    button = page.get_by_role("button", name="Upload and check")
    page.get_by_label("Dataset file").set_input_files(large)
    page.get_by_label("Name", exact=True).fill("../x")
    expect(button).to_be_disabled()
    (route,) = held
    route.continue_()
    button.click()
    expect(page.get_by_role("alert")).to_contain_text("Enter a name.")


def test_the_page_says_that_the_bucket_lacks_a_cors_rule(
    visit: Visitors, api_stack: Stack, tmp_path: Path
) -> None:
    """If the bucket's CORS rules refuse a request, the browser tells the page only that it failed."""
    visitor = visit()
    page = visitor.open("datasets")
    file = tmp_path / "small.zip"
    file.write_bytes(b"PK")
    page.route(f"{api_stack.s3.endpoint_url}/**", lambda route: route.abort("failed"))
    page.clock.install()
    page.get_by_label("Dataset file").set_input_files(file)
    with visitor.outage():
        page.get_by_role("button", name="Upload and check").click()
        alert = page.get_by_text("CORS rules do not allow PUT from")
        for _ in range(60):
            page.clock.run_for(2000)
            page.wait_for_timeout(50)
            if alert.is_visible():
                break
        expect(alert).to_be_visible()
    page.unroute_all()


def test_an_upload_outlasts_a_short_loss_of_the_network(
    visit: Visitors, api_stack: Stack, tmp_path: Path
) -> None:
    visitor = visit()
    page = visitor.open("datasets")
    file = tmp_path / "network.zip"
    file.write_bytes(b"PK")
    signed: list[Route] = []

    def lose_the_second(route: Route) -> None:
        signed.append(route)
        if len(signed) == 2:
            route.abort("internetdisconnected")
        else:
            route.continue_()

    page.route(f"{api_stack.s3.endpoint_url}/**", lambda route: route.abort("internetdisconnected"), times=1)
    page.route("**/parts", lose_the_second)
    page.get_by_label("Dataset file").set_input_files(file)
    with visitor.outage():
        page.get_by_role("button", name="Upload and check").click()
        _see_the_check(page)
    assert len(signed) == 3


def test_a_file_that_was_changed_after_it_was_chosen_is_named(visit: Visitors, tmp_path: Path) -> None:
    """The browser does not send such a file, and tells the page only that the request failed."""
    visitor = visit()
    visitor.page.clock.install()
    page = visitor.open("datasets")
    file = tmp_path / "changed.zip"
    file.write_bytes(b"PK")
    page.get_by_label("Dataset file").set_input_files(file)
    file.write_bytes(b"PK, and more")
    with visitor.outage():
        page.get_by_role("button", name="Upload and check").click()
        refusal = page.get_by_text("changed.zip has been changed, moved or removed since you chose it")
        expect(refusal).to_be_visible()


def test_a_failed_upload_remains_failed_while_its_other_parts_end(
    visit: Visitors, api_stack: Stack, signs: Path
) -> None:
    visitor = visit()
    visitor.expects(400, "/uploads/")
    page = visitor.open("datasets")
    held: list[Route] = []
    ended: list[str] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.on("requestfinished", lambda request: ended.append(request.url))
    page.on("requestfailed", lambda request: ended.append(request.url))
    page.route(f"{api_stack.s3.endpoint_url}/**", hold)
    _send(page, signs, "uploads-failed")
    _wait(page, lambda: len(held) == 3)
    first, *others = held
    first.fulfill(status=400, headers=_FOR_ALL)
    refusal = page.get_by_text("responded with 400")
    expect(refusal).to_be_visible()
    for route in others:
        route.continue_()
    _wait(page, lambda: {route.request.url for route in held} <= set(ended))
    expect(page.get_by_role("button", name="Upload and check")).to_be_enabled()
    expect(refusal).to_be_visible()


def test_an_upload_is_not_sent_again_if_only_its_check_could_not_be_started(
    visit: Visitors, signs: Path
) -> None:
    visitor = visit()
    visitor.expects(503, "/versions")
    page = visitor.open("datasets")
    begun: list[str] = []
    sent: list[str] = []

    def note(request: Request) -> None:
        if request.method == "PUT":
            sent.append(request.url)
        elif request.method == "POST" and request.url.endswith("/uploads"):
            begun.append(request.url)

    page.on("request", note)
    page.route("**/versions", lambda route: route.fulfill(status=503), times=1)
    _send(page, signs, "uploads-checked-later")
    expect(page.get_by_text("Airflow responded with 503")).to_be_visible()
    page.get_by_role("button", name="Upload and check").click()
    _see_the_check(page)
    assert (len(begun), len(sent)) == (1, 3)


def test_an_upload_that_another_tab_completes_ends_in_both(visit: Visitors, signs: Path) -> None:
    slow, fast = visit(), visit()
    slow.expects(409, "/parts")
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    slow.page.route("**/parts", hold, times=1)
    _send(slow.open("datasets"), signs, "uploads-tabs")
    _wait(slow.page, lambda: len(held) == 1)
    _send(fast.open("datasets"), signs, "uploads-tabs")
    _see_the_check(fast.page)
    held[0].continue_()
    _see_the_check(slow.page)


def test_only_the_part_that_collides_with_another_request_is_sent_again(
    visit: Visitors, api_stack: Stack, signs: Path
) -> None:
    visitor = visit()
    visitor.expects(409, "/uploads/")
    page = visitor.open("datasets")
    sent: list[str] = []
    held: list[Route] = []

    def refuse_the_first(route: Route) -> None:
        """Refuse the first part, and hold the others until it is sent again."""
        sent.append(route.request.url.partition("?")[0])
        if len(sent) == 1:
            route.fulfill(status=409, headers=_FOR_ALL)
            return
        held.append(route)
        while sent.count(sent[0]) > 1 and held:
            held.pop().continue_()

    page.route(f"{api_stack.s3.endpoint_url}/**", refuse_the_first)
    _send(page, signs, "uploads-collision")
    _see_the_check(page)
    assert sorted(sent) == sorted([*set(sent), sent[0]])


def test_a_form_without_the_rule_for_names_can_be_loaded_again(visit: Visitors) -> None:
    visitor = visit()
    visitor.lose_form()
    page = visitor.open("datasets")
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("button", name="Upload and check")).to_be_enabled()


def test_a_viewer_sees_the_datasets_and_cannot_upload_any(visit: Visitors) -> None:
    page = visit("viewer").open("datasets")
    expect(page.get_by_role("heading", level=1, name="Datasets")).to_be_visible()
    expect(page.get_by_role("heading", name="No datasets", exact=True)).to_be_visible()
    expect(page.get_by_text("Archived datasets are not listed.")).to_be_visible()
    expect(page.get_by_role("button", name="Upload and check")).to_have_count(0)
