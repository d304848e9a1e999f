"""The values that `model` may have, and their meaning."""

from __future__ import annotations

import re

import pytest

from include.jobs.model_reference import ModelKind, ModelReference
from include.training.architectures import is_architecture, read_published_weights


@pytest.mark.parametrize(
    ("typed", "kind", "text", "name", "version"),
    [
        ("yolo11n", ModelKind.ARCHITECTURE, "yolo11n", "yolo11n", None),
        (" YOLO11n ", ModelKind.ARCHITECTURE, "yolo11n", "yolo11n", None),
        ("yolo11s.yaml", ModelKind.ARCHITECTURE, "yolo11s.yaml", "yolo11s.yaml", None),
        ("YOLO26S-seg.PT", ModelKind.PRETRAINED, "yolo26s-seg.pt", "yolo26s-seg.pt", None),
        ("Company-Base.pt", ModelKind.PRETRAINED, "Company-Base.pt", "Company-Base.pt", None),
        ("S3://bucket/Key/x.pt\n", ModelKind.OBJECT, "s3://bucket/Key/x.pt", "s3://bucket/Key/x.pt", None),
        ("Job: a-1", ModelKind.JOB, "job:a-1", "a-1", None),
        ("model:digits", ModelKind.VERSION, "model:digits", "digits", None),
        ("model:digits@03", ModelKind.VERSION, "model:digits@3", "digits", 3),
    ],
)
def test_case_and_blanks_in_a_model_reference_do_not_matter(
    typed: str, kind: ModelKind, text: str, name: str, version: int | None
) -> None:
    assert ModelReference.parse(typed) == ModelReference(kind, text, name, version)
    assert ModelReference.parse(text).text == text


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "sam_b",
        "sam_b.pt",
        "rtdetr-l",
        "yolov11n",
        "coco8.yaml",
        "/a/yolo11n.pt",
        "model:a@x",
        "job:",
    ],
)
def test_advice_names_only_existing_models(typed: str) -> None:
    with pytest.raises(ValueError, match="model=") as refusal:
        ModelReference.parse(typed)
    advised = re.findall(r"\byolo[\w.-]*\b", str(refusal.value).replace(repr(typed), ""))
    for name in advised:
        assert is_architecture(name) or name in read_published_weights(), name
    assert "sam_b" not in str(refusal.value).replace(repr(typed), "")


def test_a_model_for_another_task_is_refused_if_its_name_shows_its_task() -> None:
    ModelReference.parse("yolo11n-pose.pt").require_task("pose")
    ModelReference.parse("company-base.pt").require_task("pose")
    with pytest.raises(
        ValueError, match="is a model for classify, but the task is pose; give task='classify'"
    ):
        ModelReference.parse("yolo11n-cls.yaml").require_task("pose")
