"""The parameters of `promote_model`, and the version that it chooses from them."""

from __future__ import annotations

from pydantic import Field

from include.jobs.parameters import OptionalText
from include.limits import TEXT
from include.models.objects import MODEL_NAME, MODEL_NAME_RULE
from include.payload import Payload
from include.request import Request


class PromotionRequest(Request):
    """Every parameter of `promote_model`."""

    dag_id = "promote_model"

    name: str = Field(
        pattern=MODEL_NAME,
        description=f"Name of the model, as in its retraining plan: {MODEL_NAME_RULE}.",
    )
    version: int | None = Field(
        None,
        ge=1,
        le=2**31 - 1,
        description="The version to promote. Default: roll back to the older version that was in production "
        "most recently.",
    )
    reason: OptionalText = Field(
        None, max_length=TEXT, description="Reason for the promotion, recorded with the version."
    )
    force: bool = Field(
        False,
        description="Promote the version even if the gate rejected it, or if it was promoted earlier without "
        "a signature.",
    )


class ChosenVersion(Payload):
    """The version to promote.

    Another task promotes it. If that task also chose the version, its retry after a rollback could roll back
    once more, to a still older version.
    """

    name: str
    """Name of the model."""
    version: int
    """Number of the version."""
    expected: int | None
    """The version to replace; None if there is none. After retraining, this is the champion that this version
    was compared with; otherwise, the version that was in production when this one was chosen."""
    reason: str | None
    """Why the version is promoted."""
    force: bool = False
    """As in PromotionRequest."""
