"""The functions that read keys understand the keys that the functions next to them build."""

from __future__ import annotations

import pytest

from include.s3 import layout
from include.s3.layout import ConvertedKey

FINGERPRINT = "0123456789abcdef" * 4


def test_the_owner_of_each_object_is_found_in_its_key() -> None:
    assert layout.find_checkpoint_job(layout.build_checkpoint_key("job-1", "last.previous")) == "job-1"
    assert layout.find_picture_job(f"{layout.build_pictures_prefix('job-1')}results.png") == "job-1"
    assert layout.find_report_job(layout.build_dataset_report_key("job-1")) == "job-1"
    assert layout.find_production_name(layout.build_production_key("digits")) == "digits"
    assert layout.find_upload(layout.build_upload_record_key("upload-1")) == "upload-1"


@pytest.mark.parametrize(
    "key",
    [
        layout.build_manifest_key(FINGERPRINT, "detect"),
        layout.build_version_report_key(FINGERPRINT, "detect"),
        layout.build_difference_key(FINGERPRINT, "detect", "f" * 64, "segment"),
        f"{layout.build_samples_prefix(FINGERPRINT, 'detect')}index.json",
    ],
)
def test_the_dataset_of_each_derived_object_is_found_in_its_key(key: str) -> None:
    assert layout.find_derived_dataset(key) == f"{FINGERPRINT}-detect"


@pytest.mark.parametrize(("rest", "path"), [("", None), ("/", ""), ("/data.yaml", "data.yaml")])
def test_a_key_of_a_converted_dataset_is_split(rest: str, path: str | None) -> None:
    prefix = layout.build_converted_prefix(FINGERPRINT).removesuffix("/")
    assert ConvertedKey.parse(f"{prefix}{rest}") == ConvertedKey(FINGERPRINT, path)


def test_other_keys_have_no_owner() -> None:
    assert layout.find_checkpoint_job(layout.PROBE_KEY) is None
    assert layout.find_production_name(layout.build_version_key("digits", 1)) is None
    assert layout.find_derived_dataset(layout.build_listing_key(FINGERPRINT)) is None
    assert ConvertedKey.parse(layout.build_listing_key(FINGERPRINT)) is None
