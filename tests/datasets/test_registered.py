"""The parameter `dataset` names a registered dataset or one of its versions, or is an address."""

from __future__ import annotations

import re

import pytest

from include.datasets.errors import DatasetError
from include.datasets.reference import DatasetVersionName
from include.datasets.registered import LARGEST_VERSION, RegisteredName, parse_registered
from include.datasets.sources import parse_source
from include.registry.request import RegisterRequest
from include.request import RequestRefused


@pytest.mark.parametrize(
    ("dataset", "named"),
    [
        ("parts", RegisteredName("parts", None)),
        ("parts@3", RegisteredName("parts", 3)),
        ("Parts.2026_v-1@10", RegisteredName("Parts.2026_v-1", 10)),
        (f"parts@{LARGEST_VERSION}", RegisteredName("parts", LARGEST_VERSION)),
        ("coco8", RegisteredName("coco8", None)),
        ("coco8.yaml", None),
        ("coco8.yml", None),
        ("coco8.yaml2", RegisteredName("coco8.yaml2", None)),
        ("digits2", RegisteredName("digits2", None)),
        ("x" * 128, RegisteredName("x" * 128, None)),
        ("digits", None),
        ("", None),
        ("x" * 129, None),
        ("s3://bucket/parts@3", None),
        ("/data/parts@3", None),
        ("data/parts", None),
        ("-parts", None),
        ("parts\n", None),
        ("téile", None),
    ],
)
def test_a_registered_name_is_distinguished_from_an_address(
    dataset: str, named: RegisteredName | None
) -> None:
    assert parse_registered(dataset) == named
    assert named is None or str(named) == dataset


@pytest.mark.parametrize(
    "version", ["0", "03", "-1", "x", "", "1.5", "3 ", "3@4", "²", str(LARGEST_VERSION + 1)]
)
def test_a_version_that_is_not_a_number_is_refused(version: str) -> None:
    with pytest.raises(DatasetError, match="a version is a whole number from 1, as in 'parts@3'"):
        parse_registered(f"parts@{version}")


@pytest.mark.parametrize("source", ["parts@0", "dataset=x", "s3://", "s3://bucket/dataset=x.tar"])
def test_an_error_names_the_parameter_that_gave_the_address(source: str) -> None:
    given = re.escape(repr(source))
    with pytest.raises(RequestRefused, match=f"^source={given}[ :]"):
        RegisterRequest.parse({"name": "parts", "source": source})
    with pytest.raises(DatasetError, match=f"^dataset={given}[ :]"):
        assert parse_registered(source) or parse_source(source, "detect")


def test_a_name_matches_all_its_versions_and_a_version_only_itself() -> None:
    third = DatasetVersionName(name="parts", version=3)
    assert RegisteredName("parts", None).may_be(third)
    assert RegisteredName("parts", 3).may_be(third)
    assert not RegisteredName("parts", 4).may_be(third)
    assert not RegisteredName("others", None).may_be(third)
    assert not RegisteredName("parts", None).may_be(None)


@pytest.mark.parametrize("source", ["s3://b/../x.zip", "s3://b/a/../data.yaml", "s3://b/./x/", "s3://b/x/.."])
def test_an_address_with_dots_for_folders_is_refused_at_once(source: str) -> None:
    """SeaweedFS refuses such keys in a way that looks like an outage."""
    with pytest.raises(DatasetError, match=r"contains '\.' or '\.\.' as a folder, which S3 does not resolve"):
        parse_source(source, "detect")
