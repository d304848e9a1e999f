"""Sample images of a dataset version, served by this API because the console may not load them from S3."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Response

from include.api.access import require_can_see_runs
from include.api.addresses import build_api_url
from include.api.bodies import ResponseBody
from include.api.database import open_database
from include.api.datasets import VersionNumber  # noqa: TC001 - FastAPI reads annotations at run time
from include.api.deployment import InteractiveBucket
from include.api.pictures import answer_picture
from include.api.problems import ProblemError, describe_errors
from include.datasets.drawing.store import SampleStore
from include.datasets.rules import Split
from include.plain_text import escape_controls
from include.registry.repository import DatasetRepository
from include.registry.request import REGISTER_DAG
from include.registry.version import DatasetVersion

router = APIRouter(prefix="/datasets", tags=["datasets"], dependencies=[require_can_see_runs(REGISTER_DAG)])

_BYTES = {"content": {"image/jpeg": {}}, "description": "The picture."}


class SamplePicture(ResponseBody):
    """An image with its labels drawn on it."""

    name: str
    """Name of the picture, such as `0.jpg`."""
    split: Split
    """The split that contains the image."""
    image: str
    """Path of the image within its split."""
    href: str
    """Absolute URL of the picture."""


class Samples(ResponseBody):
    """Sample images of a version."""

    samples: list[SamplePicture]
    """At most twelve, taken at even intervals from each split; empty if none were drawn."""


def _require_version(name: str, version: VersionNumber) -> DatasetVersion:
    with open_database() as database:
        return DatasetRepository(database).require_version(name, version)


FoundVersion = Annotated[DatasetVersion, Depends(_require_version)]
"""The version in the URL; no database connection is held while the route waits for S3."""


@router.get("/{name}/versions/{version}/samples", responses=describe_errors(HTTPStatus.NOT_FOUND))
def list_samples(found: FoundVersion, bucket: InteractiveBucket) -> Samples:
    """List the samples that were drawn when the version was checked."""
    return Samples(
        samples=[
            SamplePicture(
                name=each.name,
                split=each.split,
                image=escape_controls(each.image),
                href=build_api_url(
                    "datasets", found.name, "versions", str(found.version), "samples", each.name
                ),
            )
            for each in SampleStore(bucket).list(found.fingerprint, found.task)
        ]
    )


@router.get(
    "/{name}/versions/{version}/samples/{sample}",
    response_class=Response,
    responses=describe_errors(HTTPStatus.NOT_FOUND) | {int(HTTPStatus.OK): _BYTES},
)
def get_sample(
    found: FoundVersion, bucket: InteractiveBucket, sample: str, if_none_match: Annotated[str, Header()] = ""
) -> Response:
    """Return a picture. A browser may cache it, but must revalidate it."""
    picture = SampleStore(bucket).fetch(found.fingerprint, found.task, sample, if_none_match)
    if picture is None:
        raise ProblemError(
            HTTPStatus.NOT_FOUND, f"sample={sample!r:.80} is not a picture of {found}; list its samples first"
        )
    return answer_picture(picture, "image/jpeg")
