"""A user's own dataset is dropped onto the page, checked, shown, trained on, extended and compared."""

from __future__ import annotations

import base64
import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import FrameLocator, Page, expect

from include.stack.local import Stack
from tests.support.airflow_client import Airflow, job_row
from tests.support.browsing import Visitors
from tests.support.scheduled_trainings import small_job
from tests.support.tiny_datasets import build

pytestmark = pytest.mark.timeout(600)

YAML = """train: ../train/images
val: ../valid/images

nc: 2
names: ['box', 'arrow']

roboflow:
  workspace: acme
  project: shapes
  version: 1
  license: CC BY 4.0
"""


def export_like_roboflow(folder: Path, train: int) -> bytes:
    """Return a zip as Roboflow writes it: splits above images and labels.

    The paths in data.yaml are one folder off. The zip has the first `train` training images of the dataset
    in the folder, and all validation images.
    """
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("data.yaml", YAML)
        archive.writestr("README.roboflow.txt", "shapes - v1")
        for split, name in (("train", "train"), ("val", "valid")):
            for kind in ("images", "labels"):
                files = sorted((folder / kind / split).iterdir(), key=lambda file: int(file.stem))
                for file in files[:train]:
                    archive.writestr(f"{name}/{kind}/{file.stem}_png.rf.1f{file.suffix}", file.read_bytes())
    return packed.getvalue()


def drop(page: Page, content: bytes, name: str) -> None:
    """Drop a file onto the page, as a person does."""
    script = """([text, name]) => {
      const bytes = Uint8Array.from(atob(text), (each) => each.charCodeAt(0));
      const data = new DataTransfer();
      data.items.add(new File([bytes], name, { type: "application/zip" }));
      return data;
    }"""
    data = page.evaluate_handle(script, [base64.b64encode(content).decode(), name])
    page.get_by_text("or drop one here").dispatch_event("drop", {"dataTransfer": data})


def upload(page: Page, content: bytes, name: str, note: str) -> None:
    drop(page, content, name)
    expect(page.get_by_text(f"{name}, ")).to_be_visible()
    page.get_by_label("Note").fill(note)
    page.get_by_role("button", name="Upload and check").click()


def expect_no_broken_picture(page: Page | FrameLocator) -> None:
    pictures = page.get_by_role("region", name="Samples with their labels").get_by_role("img")
    for picture in pictures.all():
        picture.scroll_into_view_if_needed()
        expect(picture).to_have_js_property("complete", True)
        assert picture.evaluate("img => img.naturalWidth") > 0


@pytest.mark.long
def test_a_dropped_zip_is_checked_trained_on_and_compared_with_its_next_version(
    visit: Visitors, api: Airflow, airflow_stack: Stack, tmp_path: Path
) -> None:
    small: dict[str, Any] = small_job(airflow_stack, tmp_path, 2)
    build("detect", tmp_path / "shapes", train=18, val=4, size=160)
    visitor = visit()
    page = visitor.open("datasets")
    upload(page, export_like_roboflow(tmp_path / "shapes", 8), "shapes.v1.zip", "the first export")
    expect(page.get_by_role("link", name="Show version 1")).to_be_visible(timeout=180_000)
    page.get_by_role("link", name="Show version 1").click()

    expect(page.get_by_role("heading", level=1, name="shapes.v1 version 1")).to_be_visible()
    classes = page.get_by_role("table", name="Classes")
    expect(classes.get_by_role("row")).to_have_count(3)
    expect(classes.get_by_role("row").filter(has_text="arrow")).to_be_visible()
    samples = page.get_by_role("region", name="Samples with their labels")
    expect(samples.get_by_role("img")).to_have_count(12)
    expect_no_broken_picture(page)
    assert visitor.barriers() == []
    assert not visitor.wider_than_the_screen()

    page.get_by_role("link", name="Train on this version").click()
    expect(page.get_by_role("heading", level=1, name="Train on shapes.v1@1")).to_be_visible()
    expect(page.get_by_label("dataset", exact=True)).to_have_value("shapes.v1@1")
    page.get_by_label("model", exact=True).fill(small["model"])
    page.get_by_label("epochs", exact=True).fill("1")
    page.get_by_label("imgsz", exact=True).fill("64")
    page.get_by_text("Advanced").click()
    page.get_by_label("job_id", exact=True).fill("own-data")
    page.get_by_role("button", name="Start training").click()
    expect(page.get_by_role("heading", level=1, name="Training own-data")).to_be_visible(timeout=120_000)
    expect(page.get_by_role("link", name="Resume with more epochs")).to_be_visible(timeout=180_000)
    assert (job_row(airflow_stack, "own-data")["dataset_version"]) == 1
    expect(page.get_by_role("table", name="Classes")).to_contain_text("arrow")

    page.get_by_role("link", name="shapes.v1@1").click()
    expect(page.get_by_role("region", name="Training runs on this version")).to_contain_text("own-data")
    page.get_by_role("link", name="New version").click()
    upload(page, export_like_roboflow(tmp_path / "shapes", 18), "shapes.v2.zip", "ten more images")
    expect(page.get_by_role("link", name="Show version 2")).to_be_visible(timeout=180_000)
    page.get_by_role("link", name="Show version 2").click()
    difference = page.get_by_role("region", name="Differences from version 1")
    expect(difference.get_by_text("Images added: 10")).to_be_visible()
    expect(difference.get_by_text("Images removed: 0")).to_be_visible()
    assert visitor.barriers() == []


def test_data_that_the_check_refuses_are_shown_with_the_reason(
    visit: Visitors, api: Airflow, tmp_path: Path
) -> None:
    build("detect", tmp_path / "shapes", train=8, val=4)
    (tmp_path / "shapes/labels/train/3.txt").write_text("7 0.5 0.5 0.1 0.1\n")
    page = visit().open("datasets")
    upload(page, export_like_roboflow(tmp_path / "shapes", 8), "wrong.zip", "")
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("class 7", timeout=180_000)
    expect(alert).to_contain_text("The dataset was refused")
    expect(page.get_by_role("heading", name="Try again")).to_be_visible()
    page.get_by_role("button", name="Delete the uploaded files").click()
    expect(page.get_by_text("The uploaded files have been deleted.")).to_be_visible()
