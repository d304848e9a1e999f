"""Registered datasets: their versions, the content of each version, and differences between versions."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field, TypeAdapter

from include.api.access import require_can_see_runs
from include.api.bodies import ResponseBody
from include.api.database import Database, open_database
from include.api.deployment import InteractiveBucket
from include.api.pages import Cursor, Limit, decode_cursor, encode_cursor
from include.api.problems import ProblemError, describe_errors
from include.datasets.registered import LARGEST_VERSION
from include.limits import COMPARED_IMAGES
from include.plain_text import escape_model
from include.registry.difference import (
    ClassDifference,
    FileDifference,
    compare_classes,
    find_difference,
    load_difference,
)
from include.registry.manifests import ManifestMissing
from include.registry.repository import DatasetJob, DatasetPosition, DatasetRepository
from include.registry.request import REGISTER_DAG
from include.registry.version import DatasetSummary, DatasetVersion

if TYPE_CHECKING:
    from include.s3.bucket import Bucket

router = APIRouter(prefix="/datasets", tags=["datasets"], dependencies=[require_can_see_runs(REGISTER_DAG)])

VersionNumber = Annotated[int, Path(ge=1, le=LARGEST_VERSION, description="Number of the version.")]

_POSITION = TypeAdapter(DatasetPosition)
_NOT_FOUND = describe_errors(HTTPStatus.NOT_FOUND)


class DatasetsQuery(BaseModel):
    """Query parameters for listing datasets."""

    prefix: str | None = Field(None, max_length=128, description="Only datasets whose name starts with this.")
    archived: bool | None = Field(
        None,
        description="true: only datasets whose versions are all archived. false: only the other datasets.",
    )
    limit: Limit = 50
    """Page size."""
    cursor: Cursor | None = None
    """Where the page begins; None for the first page."""


class Dataset(ResponseBody):
    """A registered dataset."""

    newest: DatasetSummary
    """The newest version that is not archived; if all are archived, the newest version."""
    versions: int
    """Number of versions."""


class DatasetsPage(ResponseBody):
    """Datasets; those with the newest versions come first."""

    datasets: list[Dataset]
    """The datasets on this page."""
    next: str | None
    """Cursor of the next page; null on the last page."""


class DatasetVersionsQuery(BaseModel):
    """Query parameters for listing a dataset's versions."""

    limit: Limit = 50
    """Page size."""
    before: int | None = Field(None, ge=1, le=LARGEST_VERSION, description="Only versions before this one.")


class DatasetVersionsPage(ResponseBody):
    """Versions, the newest first."""

    versions: list[DatasetSummary]
    """The versions on this page."""
    next: int | None
    """The `before` of the next page; null on the last page."""


class DatasetVersionResponse(DatasetVersion):
    """A version with its class table and its jobs."""

    jobs: list[DatasetJob]
    """The jobs that were trained on the version, the newest first; at most 50."""


class DatasetDifference(ResponseBody):
    """The changes from version `base` to this one."""

    base: int
    """Number of the version that is compared with."""
    version: int
    """Number of the version whose changes are listed."""
    files: FileDifference | None
    """Null if the files of either version were not recorded."""
    classes: ClassDifference | None
    """Null if the classes of either version were not counted."""


@router.get("")
def list_datasets(query: Annotated[DatasetsQuery, Query()], database: Database) -> DatasetsPage:
    """List the registered datasets; those with the newest versions come first."""
    found = DatasetRepository(database).list(
        query.prefix,
        archived=query.archived,
        limit=query.limit + 1,
        before=decode_cursor(query.cursor, _POSITION),
    )
    page = found[: query.limit]
    return DatasetsPage(
        datasets=[Dataset(newest=escape_model(listed.newest), versions=listed.versions) for listed in page],
        next=encode_cursor(*page[-1].position) if len(found) > len(page) else None,
    )


@router.get("/{name}", responses=_NOT_FOUND)
def list_dataset_versions(
    name: str, query: Annotated[DatasetVersionsQuery, Query()], database: Database
) -> DatasetVersionsPage:
    """List the versions of a dataset, the newest first."""
    datasets = DatasetRepository(database)
    found = datasets.list_versions(name, query.limit + 1, query.before)
    if not found and query.before is None:
        raise ProblemError(HTTPStatus.NOT_FOUND, f"name={name!r:.140} is not a registered dataset")
    page = found[: query.limit]
    return DatasetVersionsPage(
        versions=[escape_model(version) for version in page],
        next=page[-1].version if len(found) > len(page) else None,
    )


@router.get("/{name}/versions/{version}", responses=_NOT_FOUND)
def get_dataset_version(name: str, version: VersionNumber, database: Database) -> DatasetVersionResponse:
    """Return one version with its class counts and the jobs that were trained on it."""
    return build_version_response(DatasetRepository(database).require_version(name, version), database)


@router.get(
    "/{name}/versions/{version}/difference",
    responses=describe_errors(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
)
def compare_dataset_versions(
    name: str,
    version: VersionNumber,
    base: Annotated[
        int, Query(ge=1, le=LARGEST_VERSION, description="Number of the version to compare with.")
    ],
    bucket: InteractiveBucket,
) -> DatasetDifference:
    """Return the changes from version `base` to this one: counts, and at most 50 images per kind of change.

    An image is identified by its path within its split, a class by its name.
    """
    with open_database() as database:
        datasets = DatasetRepository(database)
        after, before = datasets.require_version(name, version), datasets.require_version(name, base)
    classes = compare_classes(before.class_table, after.class_table)
    return DatasetDifference(
        base=base,
        version=version,
        files=_compare_files(bucket, before, after),
        classes=classes and escape_model(classes),
    )


def build_version_response(version: DatasetVersion, database: Database) -> DatasetVersionResponse:
    """Return the API's representation of the version."""
    jobs = DatasetRepository(database).list_jobs(version.name, version.version)
    return escape_model(DatasetVersionResponse(**dict(version), jobs=jobs))


def _compare_files(bucket: Bucket, base: DatasetVersion, version: DatasetVersion) -> FileDifference | None:
    found = load_difference(bucket, base, version)
    if found is not None:
        return found
    images = sum(each.train_images + each.val_images for each in (base, version))
    if images > COMPARED_IMAGES:
        raise ProblemError(
            HTTPStatus.CONFLICT,
            f"{base} and {version} have {images:,} images in total, but this request compares at most "
            f"{COMPARED_IMAGES:,}; registration compares each version with the one before, whatever its size",
        )
    try:
        return find_difference(bucket, base, version)  # not stored, because only tasks write to the bucket
    except ManifestMissing:
        return None
