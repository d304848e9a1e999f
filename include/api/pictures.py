"""Pictures of a training run, served by this API because the console's pages may not load them from S3."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Header, Response

from include.api.access import require_can_see_runs
from include.api.addresses import build_api_url
from include.api.bodies import ResponseBody
from include.api.deployment import InteractiveBucket
from include.api.jobs import FoundJob
from include.api.problems import ProblemError, describe_errors
from include.jobs.job import TRAINING_DAG
from include.pictures.choosing import MEDIA_TYPES, find_media_type
from include.pictures.store import PictureStore

if TYPE_CHECKING:
    from include.s3.bucket import ObjectContent

router = APIRouter(prefix="/jobs", tags=["pictures"], dependencies=[require_can_see_runs(TRAINING_DAG)])

_BYTES = {"content": {kind: {} for kind in MEDIA_TYPES.values()}, "description": "The picture."}


class Picture(ResponseBody):
    """A picture."""

    name: str
    """File name as Ultralytics chose it, such as `results.png`."""
    size: int
    """In bytes."""
    media_type: str
    """`image/png` or `image/jpeg`."""
    href: str
    """Absolute URL of the picture."""


class Pictures(ResponseBody):
    """Plots that Ultralytics drew of the job's current training run."""

    pictures: list[Picture]
    """The most informative first; empty until an attempt has finished training, and if `plots` is off."""


@router.get("/{job_id}/pictures", responses=describe_errors(HTTPStatus.NOT_FOUND))
def list_pictures(job: FoundJob, bucket: InteractiveBucket) -> Pictures:
    """List the pictures that were stored when training ended."""
    return Pictures(
        pictures=[
            Picture(
                name=each.name,
                size=each.size,
                media_type=find_media_type(each.name),
                href=build_api_url("jobs", job.job_id, "pictures", each.name),
            )
            for each in PictureStore(bucket).list_pictures(job.job_id, job.origin_run_id)
        ]
    )


@router.get(
    "/{job_id}/pictures/{name}",
    response_class=Response,
    responses=describe_errors(HTTPStatus.NOT_FOUND) | {int(HTTPStatus.OK): _BYTES},
)
def get_picture(
    job: FoundJob, bucket: InteractiveBucket, name: str, if_none_match: Annotated[str, Header()] = ""
) -> Response:
    """Return a picture. A browser may cache it, but must revalidate it."""
    picture = PictureStore(bucket).fetch(job.job_id, job.origin_run_id, name, if_none_match)
    if picture is None:
        raise ProblemError(
            HTTPStatus.NOT_FOUND,
            f"name={name!r:.80} is not a picture of job {job.job_id}; list its pictures first",
        )
    return answer_picture(picture, find_media_type(name))


def answer_picture(picture: ObjectContent, media_type: str) -> Response:
    """Return a response that browsers may cache but must revalidate: the picture, or 304 if unchanged."""
    headers = {"ETag": picture.etag, "Cache-Control": "private, no-cache"}
    if picture.content is None:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(picture.content, headers=headers, media_type=media_type)
