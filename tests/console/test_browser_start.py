"""The start form is short, is checked before a run is triggered, and loses no input."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
from playwright.sync_api import Page, Route, expect

from include.stack.local import Stack
from tests.support.airflow_client import Airflow
from tests.support.browsing import Visitors
from tests.support.recorded_trainings import record_kinds, record_training, recording
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module", autouse=True)
def recorded(api_stack: Stack) -> Iterator[psycopg.Connection[Any]]:
    with recording(api_stack, "start-") as connection:
        record_kinds(connection, "start-")
        yield connection


def _open_advanced(page: Page) -> None:
    page.get_by_text("Advanced", exact=True).click()


def test_the_form_starts_with_the_common_parameters_and_shows_defaults(visit: Visitors) -> None:
    page = visit().open("start")
    for name in ("dataset", "model", "task", "epochs", "imgsz"):
        expect(page.get_by_label(name, exact=True)).to_be_visible()
    for name in ("job_id", "lr0", "publish_every"):
        expect(page.get_by_label(name, exact=True)).to_be_hidden()
    expect(page.get_by_label("epochs", exact=True)).to_have_attribute("placeholder", "100")
    expect(page.get_by_label("imgsz", exact=True)).to_have_attribute("placeholder", "640")
    expect(page.get_by_label("epochs", exact=True)).to_have_value("")
    _open_advanced(page)
    expect(page.get_by_label("lr0", exact=True)).to_be_visible()


def test_a_form_that_could_not_be_loaded_is_loaded_again(visit: Visitors) -> None:
    visitor = visit()
    visitor.lose_form()
    page = visitor.open("start")
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_label("epochs", exact=True)).to_be_visible()


def test_datasets_and_models_are_offered_as_suggestions(visit: Visitors) -> None:
    page = visit().open("start")

    def offered(name: str) -> list[str]:
        options = page.locator(f"#field-{name}-known option")
        return [str(each.get_attribute("value")) for each in options.all()]

    until(lambda: "digits" in offered("dataset"), "datasets to pick from")
    assert {"yolo11n", "yolo26s"} <= set(offered("model"))
    page.get_by_label("task", exact=True).select_option("segment")
    until(lambda: "yolo11n-seg" in offered("model"), "models of the task")


def test_an_error_is_shown_beside_its_field_and_the_input_is_kept(
    visit: Visitors, api_stack_airflow: Airflow
) -> None:
    runs = api_stack_airflow.runs("train_yolo")
    page = visit().open("start")
    page.get_by_label("epochs", exact=True).fill("7")
    page.get_by_label("model", exact=True).fill("yolo11n-seg")
    _open_advanced(page)
    page.get_by_label("job_id", exact=True).fill("start-parent")
    page.get_by_role("button", name="Start training").click()
    model = page.get_by_label("model", exact=True)
    expect(model).to_have_accessible_description(re.compile("is a model for segment, but the task is detect"))

    model.fill("")
    page.get_by_role("button", name="Start training").click()
    job_id = page.get_by_label("job_id", exact=True)
    expect(job_id).to_be_focused()
    expect(job_id).to_have_accessible_description(re.compile("is already completed"))
    assert api_stack_airflow.runs("train_yolo") == runs

    page.goto(page.url.replace("start", "models"))
    expect(page.get_by_role("heading", level=1, name="Models")).to_be_visible()
    page.go_back()
    expect(page.get_by_label("epochs", exact=True)).to_have_value("7")
    page.get_by_role("button", name="Clear the form").click()
    expect(page.get_by_label("epochs", exact=True)).to_have_value("")


def test_the_form_can_be_used_again_when_back_restores_it_from_memory(visit: Visitors) -> None:
    """Chromium does not keep pages in memory while Playwright drives it, so a script sends the event."""
    page = visit().open("start")
    page.route("**/dagRuns", lambda _: None)
    page.get_by_label("epochs", exact=True).fill("7")
    page.get_by_role("button", name="Start training").click()
    expect(page.get_by_role("button", name="Starting…")).to_be_disabled()
    restored = "dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))"
    page.evaluate(f"setTimeout(() => {restored})")
    expect(page.get_by_role("button", name="Start training")).to_be_enabled()
    expect(page.get_by_label("epochs", exact=True)).to_have_value("7")


def test_starting_again_after_a_lost_response_does_not_start_a_second_run(
    visit: Visitors, api_stack_airflow: Airflow
) -> None:
    runs = api_stack_airflow.runs("train_yolo")
    visitor = visit()
    visitor.expects(409, "/dagRuns")
    page = visitor.open("start")

    def lose_the_answer(route: Route) -> None:
        route.fetch()
        route.abort("connectionreset")

    page.route("**/dagRuns", lose_the_answer, times=1)
    with visitor.outage():
        page.get_by_role("button", name="Start training").click()
        expect(page.get_by_text("Airflow is not responding. Try again.", exact=True)).to_be_visible()
    page.get_by_role("button", name="Start training").click()
    expect(page.get_by_role("heading", level=1, name="Waiting for training to start")).to_be_visible()
    (started,) = set(api_stack_airflow.runs("train_yolo")) - set(runs)
    assert parse_qs(urlsplit(page.url).query)["run_id"] == [started]


def test_a_paused_dag_is_reported_before_and_after_the_start(
    visit: Visitors, api_stack_airflow: Airflow
) -> None:
    notice = "Runs of this Dag wait until somebody unpauses it in Airflow."
    api_stack_airflow.pause("train_yolo", paused=True)
    try:
        page = visit().open("start")
        expect(page.get_by_text(notice)).to_be_visible()
        page.get_by_role("button", name="Start training").click()
        expect(page.get_by_role("heading", level=1, name="Waiting for training to start")).to_be_visible()
        expect(page.get_by_text(notice)).to_be_visible()
    finally:
        api_stack_airflow.pause("train_yolo", paused=False)


def test_a_yolo_command_fills_in_the_form_which_is_also_shown_as_a_request(visit: Visitors) -> None:
    page = visit().open("start")
    page.get_by_label("Paste a yolo train command").fill(
        "yolo segment train data=s3://b/d.zip model=yolo11n-seg epochs=20 imgsz=320 mosaic=0.5 cos_lr=True "
        "device=[0,1] name=exp3"
    )
    page.get_by_role("button", name="Fill in").click()
    expect(page.get_by_text("Ignored (set automatically): name.")).to_be_visible()
    filled = {"dataset": "s3://b/d.zip", "model": "yolo11n-seg", "task": "segment", "epochs": "20"}
    for name, value in filled.items():
        expect(page.get_by_label(name, exact=True)).to_have_value(value)
    _open_advanced(page)
    expect(page.get_by_label("device", exact=True)).to_have_value("0,1")
    overrides = page.get_by_label("overrides", exact=True).input_value()
    assert json.loads(overrides) == {"mosaic": 0.5, "cos_lr": True}

    page.get_by_text("Start the same training run from a terminal").click()
    command = page.get_by_text(re.compile("^yolo segment train ")).inner_text()
    assert set(command.split()) == {
        "yolo", "segment", "train", "data=s3://b/d.zip", "model=yolo11n-seg", "epochs=20", "imgsz=320",
        "mosaic=0.5", "cos_lr=true", "device=0,1",
    }  # fmt: skip
    request = page.get_by_text(re.compile("^curl -X POST .*/api/v2/dags/train_yolo/dagRuns")).inner_text()
    conf = json.loads(request.partition("-d '")[2].removesuffix("'"))["conf"]
    assert (conf["dataset"], conf["epochs"], conf["overrides"]["mosaic"]) == ("s3://b/d.zip", 20, 0.5)


def test_a_line_that_is_not_a_yolo_command_is_refused(visit: Visitors) -> None:
    page = visit().open("start")
    page.get_by_label("Paste a yolo train command").fill("python train.py")
    page.get_by_label("Paste a yolo train command").press("Enter")
    expect(page.get_by_text("This is not a yolo command.")).to_be_visible()


def test_the_resume_form_shows_inherited_values_and_fills_in_several_gpus(
    visit: Visitors, recorded: psycopg.Connection[Any]
) -> None:
    record_training(recorded, "start-two", spec={"device": "0,1", "publish_every": 7, "lr0": 0.002})
    page = visit().open("start?resume=start-two")
    page.get_by_text("Other parameters").click()
    lr0 = page.get_by_label("lr0", exact=True)
    expect(lr0).to_have_accessible_description(re.compile(r"Default: as in start-two \(0\.002\)\."))
    device = page.get_by_label("device", exact=True)
    expect(device).to_have_value("0,1")
    expect(device).to_have_accessible_description(
        re.compile(r"start-two was trained on 0,1\. Enter the GPUs")
    )

    page.get_by_text("Storage and supervision").click()
    for name in ("publish_every", "publish_seconds", "hang_timeout", "keep_local"):
        own = page.get_by_label(name, exact=True)
        expect(own).to_be_visible()
        expect(own).not_to_have_accessible_description(re.compile("start-two"))
    expect(page.get_by_label("publish_every", exact=True)).to_have_value("1")


def test_the_form_says_why_a_job_cannot_be_resumed(visit: Visitors, api_stack_airflow: Airflow) -> None:
    runs = api_stack_airflow.runs("train_yolo")
    page = visit().open("start?resume=start-parent")
    page.get_by_role("button", name="Resume training").click()
    expect(page.get_by_role("alert")).to_contain_text("resume_from='start-parent'")
    assert api_stack_airflow.runs("train_yolo") == runs
