"""`make screenshots` takes the documentation's pictures of the console from training runs of the local stack.

Training runs that do not exist yet are trained first, which takes a quarter of an hour on two cores.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from benchmarks.material import make_photos
from include.stack.datasets import upload_dataset
from include.stack.demo import TRAINING
from include.stack.local import STATE, Stack
from include.stack.steps import Steps
from tests.support.airflow_client import Airflow, job_row, recorded_epochs
from tests.support.browsing import OPTIONS, Visitor, Visitors, program
from tests.support.waiting import until

IMAGES = Path(__file__).parents[2] / "docs" / "images"
TIMEOUT = 1800.0

_OVERRIDES: dict[str, Any] = {**TRAINING["overrides"], "plots": True}  # type: ignore[dict-item]
DIGITS = {name: value for name, value in TRAINING.items() if name not in {"dataset", "model"}} | {
    "overrides": _OVERRIDES
}
TRAINING_RUNS: list[tuple[str, dict[str, Any]]] = [
    ("digits-adamw", DIGITS),
    ("digits-sgd", DIGITS | {"optimizer": "SGD", "lr0": 0.02}),
    ("digits-adamw-30", {"resume_from": "digits-adamw", "epochs": 30}),
    (
        "street-signs",
        {
            "dataset": "s3://training-checkpoints/datasets/street-signs.zip",
            "model": "yolo11n",
            "epochs": 100,
        },
    ),
]
RETRAININGS = [
    {"plan": "digits", "start_from": "scratch", "parameters": DIGITS | {"epochs": epochs}}
    for epochs in (12, 18, 6)
]
"""The first and second challengers become champions, and the third is refused."""
RUNNING = "digits-long"
SHOWN_AFTER = 12
"""The number of epochs that the running job must have finished."""
DATASET = "street-digits"
ADDED = 10
"""The number of images that the dataset's second version adds."""

COLOURS = 256
PICTURES = {
    "jobs": ("jobs", "digits-long"),
    "job": ("job?id=digits-adamw-30", "Predictions, validation batch 0"),
    "compare": ("compare?id=digits-adamw&id=digits-sgd&id=digits-adamw-30", "Metrics"),
    "start": ("start", "What to train"),
    "models": ("models", "digits"),
    "datasets": ("datasets", DATASET),
    "dataset": (f"dataset?name={DATASET}&version=2", f"Images added: {ADDED}"),
}
"""The page of each picture, and a text that is visible once the page has loaded."""
HEIGHTS = {
    "jobs": 800,
    "job": 1400,
    "compare": 1880,
    "start": 860,
    "models": 900,
    "datasets": 640,
    "dataset": 2140,
}


def main() -> None:
    """Train the missing runs, and take all pictures."""
    stack = Stack.at(STATE)
    stack.up(Steps())
    train(stack)
    take(stack)


def train(stack: Stack) -> None:
    """Train the runs and register the datasets that do not exist yet."""
    api = Airflow(stack)
    api.run("migrate_schema", {})
    for job_id, conf in TRAINING_RUNS:
        if not _is_recorded(stack, job_id):
            api.wait("train_yolo", api.trigger("train_yolo", conf | {"job_id": job_id}), TIMEOUT)
    if not stack.api.call_training_api("GET", f"datasets?prefix={DATASET}")["datasets"]:
        register(stack)
    for conf in RETRAININGS[len(api.runs("retrain_yolo")) :]:
        api.wait("retrain_yolo", api.trigger("retrain_yolo", conf), TIMEOUT)


def register(stack: Stack) -> None:
    """Register two versions of a dataset, the second with more images."""
    with TemporaryDirectory() as folder:
        data, images = make_photos(Path(folder) / "photos", 40, 12)
        added = [f"{number:05d}" for number in range(images - ADDED, images)]
        files = [f"{kind}/train/{name}" for kind in ("images", "labels") for name in added]
        paths = [path for file in files for path in data.parent.glob(f"{file}.*")]
        kept = {path: path.read_bytes() for path in paths}
        for path in kept:
            path.unlink()
        upload_dataset(stack, Steps(), data.parent, DATASET, "detect")
        for path, content in kept.items():
            path.write_bytes(content)
        upload_dataset(stack, Steps(), data.parent, DATASET, "detect")


def take(stack: Stack) -> None:
    """Take all pictures, while a job trains."""
    api = Airflow(stack)
    if not _is_recorded(stack, RUNNING):
        api.trigger("train_yolo", DIGITS | {"job_id": RUNNING, "epochs": 60, "seed": 7})
        until(lambda: _is_recorded(stack, RUNNING), "a row of the running job", TIMEOUT)
    until(lambda: len(recorded_epochs(stack, RUNNING)) >= SHOWN_AFTER, "some epochs", TIMEOUT)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program(), args=list(OPTIONS))
        visitors = Visitors(browser, stack)
        for name, (path, text) in PICTURES.items():
            _take(visitors(height=HEIGHTS[name]), name, path, text)
        dark = visitors()
        dark.page.emulate_media(color_scheme="dark")  # Airflow follows the system's colour scheme
        _take(dark, "dark", f"job?id={RUNNING}", "Curves")
        _take_tab(visitors(height=700), job_row(stack, RUNNING)["run_id"])
        phone = visitors(width=390, height=844)
        phone.open("jobs").get_by_text(RUNNING).first.wait_for()
        _save(phone.page, "phone")
        browser.close()


def _take(visitor: Visitor, name: str, path: str, text: str) -> None:
    frame = visitor.open_in_airflow(path)
    expect(frame.get_by_text(text).first).to_be_visible()
    for picture in frame.get_by_role("region", name="Pictures").locator("img").all()[:5]:
        expect(picture).not_to_have_js_property("naturalWidth", 0)
    visitor.page.wait_for_timeout(1500)  # until the curves are drawn
    _save(visitor.page, name)


def _take_tab(visitor: Visitor, run_id: str) -> None:
    visitor.page.goto(f"{visitor.url}/dags/train_yolo/runs/{run_id}")
    visitor.page.get_by_role("link", name="Training", exact=True).click()
    expect(visitor.frame.get_by_text("Curves").first).to_be_visible()
    visitor.page.wait_for_timeout(1500)
    _save(visitor.page, "run")


def _save(page: Page, name: str) -> None:
    """Save the screenshot with a palette of COLOURS colours, which are enough for a user interface."""
    picture = Image.open(BytesIO(page.screenshot())).convert("RGB")
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(IMAGES / f"console-{name}.png", optimize=True)


def _is_recorded(stack: Stack, job_id: str) -> bool:
    try:
        return bool(job_row(stack, job_id))
    except AssertionError:
        return False


if __name__ == "__main__":
    main()
