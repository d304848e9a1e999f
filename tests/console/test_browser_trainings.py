"""A training run from its first epoch to its child job, as users watch and control it in Airflow's UI."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from playwright.sync_api import FrameLocator, Locator, Page, expect

from include.reports.report import DatasetReport
from include.stack.local import Stack
from tests.support.airflow_client import Airflow, job_row, recorded_epochs
from tests.support.browsing import Visitor, Visitors
from tests.support.scheduled_trainings import small_job
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(600)

PARENT, CHILD = "watched", "watched-on"
"""The job that is stopped, and the job that continues it to its end."""


@pytest.fixture(scope="module")
def small(airflow_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Parameters of a training run with many short epochs, which leaves Ultralytics' pictures behind."""
    conf = small_job(airflow_stack, tmp_path_factory.mktemp("model"), 400)
    return conf | {"overrides": conf["overrides"] | {"plots": True}}


@pytest.fixture(scope="module")
def running(api: Airflow, airflow_stack: Stack, small: dict[str, Any]) -> Iterator[str]:
    """Yield the id of a job that runs until a test or `stopped` stops it."""
    run_id = api.trigger("train_yolo", small | {"job_id": PARENT})
    yield PARENT
    _request_stop(airflow_stack)
    api.wait("train_yolo", run_id)


@pytest.fixture(scope="module")
def stopped(api: Airflow, airflow_stack: Stack, running: str) -> str:
    """Return the id of the same job after it was stopped."""
    until(lambda: len(recorded_epochs(airflow_stack, running)) > 2, "three epochs")
    _request_stop(airflow_stack)
    api.succeeds("train_yolo", job_row(airflow_stack, running)["run_id"])
    return running


@pytest.fixture(scope="module")
def finished_job(api: Airflow, airflow_stack: Stack, stopped: str) -> str:
    """Return the id of a completed job, which a test resumes from its parent's page."""
    if not recorded_epochs(airflow_stack, CHILD):  # that test was not selected
        api.run(
            "train_yolo", {"job_id": CHILD, "resume_from": stopped, "epochs": _trained(airflow_stack) + 2}
        )
    assert job_row(airflow_stack, CHILD)["status"] == "completed"
    return CHILD


def _request_stop(stack: Stack) -> None:
    with psycopg.connect(stack.training_db_url, autocommit=True) as connection:
        connection.execute("UPDATE training_jobs SET stop_requested = TRUE WHERE job_id = %s", [PARENT])


def _trained(stack: Stack) -> int:
    """Return how many epochs the parent has finished."""
    return int(job_row(stack, PARENT)["epoch"]) + 1


def _done(bar: Locator) -> int:
    return int(bar.get_attribute("aria-valuenow") or 0)


def _open_job(visitor: Visitor, job_id: str) -> Page:
    """Open the job's page outside Airflow's UI, which takes seconds to load."""
    page = visitor.open(f"job?id={job_id}")
    expect(page.get_by_role("heading", level=1, name=f"Training {job_id}")).to_be_visible()
    return page


def _open_job_in_airflow(visitor: Visitor, job_id: str) -> FrameLocator:
    frame = visitor.open_in_airflow(f"job?id={job_id}")
    expect(frame.get_by_role("heading", level=1, name=f"Training {job_id}")).to_be_visible()
    return frame


def test_a_job_is_found_from_the_menu_followed_live_and_stopped(
    visit: Visitors, airflow_stack: Stack, running: str
) -> None:
    visitor = visit()
    visitor.page.goto(visitor.url)
    visitor.page.get_by_role("link", name="Training runs").click()
    row = visitor.frame.get_by_role("row").filter(has_text=running)
    bar = row.get_by_role("progressbar")
    expect(bar).to_have_attribute("aria-valuenow", re.compile("[1-9]"), timeout=120_000)
    row.get_by_role("link", name=running, exact=True).click()

    bar = visitor.frame.get_by_role("progressbar", name="Progress", exact=True)
    expect(bar).to_be_visible()
    visitor.frame.locator("html").evaluate("html => { html.neverReloaded = true }")
    before = _done(bar)
    until(lambda: _done(bar) > before + 1, "two more epochs in the page")
    assert visitor.frame.locator("html").evaluate("html => html.neverReloaded")

    visitor.frame.get_by_role("button", name="Stop", exact=True).click()
    visitor.frame.get_by_role("button", name="Stop after this epoch").click()
    resume = visitor.frame.get_by_role("link", name="Resume with more epochs")
    expect(resume).to_be_visible(timeout=120_000)
    assert job_row(airflow_stack, running)["status"] == "stopped"


@pytest.mark.long
def test_a_job_is_resumed_with_more_epochs_and_compared_with_its_parent(
    visit: Visitors, airflow_stack: Stack, stopped: str
) -> None:
    frame = _open_job_in_airflow(visit(), stopped)
    trained = _trained(airflow_stack)
    frame.get_by_role("link", name="Resume with more epochs").click()
    expect(frame.get_by_role("heading", level=1, name=f"Resume {stopped}")).to_be_visible()
    frame.get_by_label("job_id").fill(CHILD)
    frame.get_by_label("epochs", exact=True).fill(str(trained + 2))
    frame.get_by_role("button", name="Resume training").click()
    heading = frame.get_by_role("heading", level=1, name=f"Training {CHILD}")
    expect(heading).to_be_visible(timeout=60_000)
    bar = frame.get_by_role("progressbar", name="Progress", exact=True)
    expect(bar).to_have_attribute("aria-valuenow", str(trained + 2), timeout=180_000)
    again = frame.get_by_role("link", name="Resume with more epochs")
    expect(again).to_be_visible(timeout=120_000)
    row = job_row(airflow_stack, CHILD)
    assert (row["parent_job_id"], row["resumed_epoch"], row["epoch"]) == (stopped, trained - 1, trained + 1)
    assert (row["status"], row["triggered_by"]) == ("completed", airflow_stack.username)

    lineage = frame.get_by_role("region", name="Lineage")
    expect(lineage.get_by_role("link", name=stopped, exact=True)).to_be_visible()
    expect(lineage.get_by_text(CHILD, exact=True).first).to_be_visible()
    frame.get_by_role("link", name=re.compile("Compare", re.IGNORECASE)).first.click()
    expect(frame.get_by_role("heading", level=1, name="Compare training runs")).to_be_visible()
    for job_id in (stopped, CHILD):
        expect(frame.get_by_role("link", name=job_id, exact=True).first).to_be_visible()


def test_curves_can_be_read_as_numbers_and_with_the_pointer(
    visit: Visitors, finished_job: str, airflow_stack: Stack
) -> None:
    epochs = job_row(airflow_stack, finished_job)["epochs"]
    curves = _open_job(visit(), finished_job).get_by_role("region", name="Curves")
    chart = curves.get_by_role("figure").filter(has_text="Box loss")
    expect(chart.get_by_text(re.compile("epoch"))).to_have_count(0)

    def pointed() -> bool:
        # Hover again at each attempt, because the page may still be moving.
        chart.get_by_role("img").hover(position={"x": 60, "y": 40})
        return chart.get_by_text(re.compile(r"^epoch \d+$")).is_visible()

    until(pointed, "the epoch at the pointer")
    chart.get_by_role("img").press("Home")
    expect(chart.get_by_text("epoch 1", exact=True)).to_be_visible()
    chart.get_by_role("img").press("End")
    expect(chart.get_by_text(f"epoch {epochs}", exact=True)).to_be_visible()
    expect(chart.get_by_role("listitem").first).to_contain_text(re.compile(r"\d\.\d{4}"))

    curves.get_by_text("Numbers").first.click()
    table = curves.get_by_role("table").first
    expect(table.get_by_role("row")).to_have_count(epochs + 1)


def test_best_pt_is_downloaded_and_predicts(visit: Visitors, finished_job: str, tmp_path: Path) -> None:
    import numpy as np
    from ultralytics import YOLO

    visitor = visit()
    link = _open_job_in_airflow(visitor, finished_job).get_by_role("link", name="Download best.pt")
    file = visitor.download(link, tmp_path)
    assert file.name == f"{finished_job}-best.pt"
    assert len(YOLO(file).predict(np.zeros((64, 64, 3), dtype=np.uint8), imgsz=64, device="cpu")) == 1


def test_last_pt_is_downloaded_whole(
    visit: Visitors, finished_job: str, airflow_stack: Stack, tmp_path: Path
) -> None:
    visitor = visit()
    link = _open_job(visitor, finished_job).get_by_role("link", name="Download last.pt")
    assert (
        visitor.download(link, tmp_path).stat().st_size
        == (job_row(airflow_stack, finished_job)["last_checkpoint_size"])
    )


def test_the_path_of_a_checkpoint_is_copied(visit: Visitors, finished_job: str, airflow_stack: Stack) -> None:
    visitor = visit()
    visitor.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    frame = _open_job_in_airflow(visitor, finished_job)
    frame.get_by_role("button", name="Copy s3:// path of best.pt").click()
    expect(frame.get_by_text("Copied", exact=False).first).to_be_visible()
    copied = visitor.page.evaluate("navigator.clipboard.readText()")
    assert copied == job_row(airflow_stack, finished_job)["best_checkpoint_path"]


def test_the_dataset_report_of_a_job_is_downloaded(
    visit: Visitors, finished_job: str, tmp_path: Path
) -> None:
    visitor = visit()
    page = _open_job(visitor, finished_job)
    expect(page.get_by_role("table", name="Classes")).to_be_visible()
    link = page.get_by_role("link", name="Download the dataset report")
    report = DatasetReport.model_validate_json(visitor.download(link, tmp_path).read_bytes())
    assert (report.job_id, report.problems, len(report.class_table)) == (finished_job, 0, 10)


def test_the_pictures_of_a_job_are_shown(visit: Visitors, finished_job: str) -> None:
    page = _open_job(visit(), finished_job)
    buttons = page.get_by_role("region", name="Pictures").get_by_role("button")
    expect(buttons.first).to_have_accessible_name("Predictions, validation batch 0")
    for button in buttons.all():
        button.scroll_into_view_if_needed()
        picture = button.locator("img")
        expect(picture).to_have_js_property("complete", True)
        assert picture.evaluate("img => img.naturalWidth") > 0
    buttons.first.click()
    large = page.get_by_role("dialog")
    expect(large.get_by_role("img", name="Predictions, validation batch 0")).to_be_visible()
    page.locator("body").press("Escape")
    expect(large).to_have_count(0)


def test_train_again_fills_the_form_with_the_same_parameters(
    visit: Visitors, finished_job: str, airflow_stack: Stack
) -> None:
    page = _open_job(visit(), finished_job)
    page.get_by_role("link", name="Train again with changes").click()
    expect(page.get_by_role("heading", level=1, name="Train again")).to_be_visible()
    epochs = job_row(airflow_stack, finished_job)["epochs"]
    expect(page.get_by_label("epochs", exact=True)).to_have_value(str(epochs))
    expect(page.get_by_label("imgsz", exact=True)).to_have_value("64")
    expect(page.get_by_label("dataset", exact=True)).to_have_value("digits")


def test_fine_tuning_begins_with_the_weights_of_the_job(visit: Visitors, finished_job: str) -> None:
    page = _open_job(visit(), finished_job)
    page.get_by_role("link", name="Fine-tune from this").click()
    expect(page.get_by_role("heading", level=1, name="Fine-tune")).to_be_visible()
    expect(page.get_by_label("model", exact=True)).to_have_value(f"job:{finished_job}")
    expect(page.get_by_label("imgsz", exact=True)).to_have_value("64")


def test_the_form_explains_a_wrong_parameter_beside_its_field(visit: Visitors, api: Airflow) -> None:
    runs = api.runs("train_yolo")
    page = visit().open("start")
    page.get_by_label("epochs", exact=True).fill("none")
    page.get_by_role("button", name="Start training").click()
    epochs = page.get_by_label("epochs", exact=True)
    expect(epochs).to_be_focused()
    expect(epochs).to_have_accessible_description(re.compile("Enter a whole number"))
    assert api.runs("train_yolo") == runs


def test_a_job_that_its_run_has_refused_is_shown_with_the_reason(
    visit: Visitors, api: Airflow, small: dict[str, Any], finished_job: str
) -> None:
    run_id = api.trigger("train_yolo", small | {"job_id": finished_job})
    frame = visit().open_in_airflow(f"run?dag_id=train_yolo&run_id={quote(run_id)}")
    expect(frame.get_by_text("Task resolve_config failed")).to_be_visible(timeout=120_000)
    expect(frame.get_by_role("alert")).to_contain_text(finished_job)


def test_a_job_links_to_its_airflow_run_and_the_tab_on_the_run_shows_the_job(
    visit: Visitors, finished_job: str, airflow_stack: Stack
) -> None:
    visitor = visit()
    href = _open_job(visitor, finished_job).get_by_role("link", name="Airflow run").get_attribute("href")
    assert href is not None
    visitor.page.goto(href)
    run_id = job_row(airflow_stack, finished_job)["run_id"]
    expect(visitor.page.get_by_text(run_id).first).to_be_visible()
    visitor.page.get_by_role("link", name="Training", exact=True).click()
    expect(visitor.frame.get_by_role("heading", level=1, name=f"Training {finished_job}")).to_be_visible()


def test_a_page_inside_airflow_has_its_own_url(visit: Visitors, finished_job: str) -> None:
    visitor = visit()
    frame = visitor.open_in_airflow("jobs?prefix=watched")
    frame.get_by_role("link", name=finished_job, exact=True).click()
    visitor.page.wait_for_url(f"**/plugin/trainings/**/job?id={finished_job}")
    visitor.page.reload()
    expect(frame.get_by_role("heading", level=1, name=f"Training {finished_job}")).to_be_visible()


def test_the_theme_follows_airflows_switch_immediately(visit: Visitors, finished_job: str) -> None:
    visitor = visit(apart=True)  # the browser keeps the theme
    frame = _open_job_in_airflow(visitor, finished_job)
    body = frame.locator("body")
    light = body.evaluate("body => getComputedStyle(body).backgroundColor")
    frame.locator("html").evaluate("html => { html.neverReloaded = true }")
    visitor.page.get_by_role("button", name="User").click()
    visitor.page.get_by_role("menuitem", name="Appearance").click()
    visitor.page.get_by_role("menuitemradio", name="Dark Mode").click()
    until(lambda: body.evaluate("body => getComputedStyle(body).backgroundColor") != light, "dark")
    assert frame.locator("html").evaluate("html => html.neverReloaded")
