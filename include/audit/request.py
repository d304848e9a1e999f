"""The parameters of `audit_checkpoints`, and the retention policy."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from include.refusals import find_first_error, show_value
from include.request import Request, RequestRefused

POLICY_VARIABLE = "retention_policy"
"""The Airflow Variable that holds a deployment's policy, as JSON."""

_MOST = 1_000_000
_HUNDRED_YEARS = 36_500


class RetentionPolicy(BaseModel):
    """Decides which full states (last.pt with last.previous.pt) to keep; see docs/operations.md.

    A state is kept if one of the first three fields says so, or if something needs its job.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    keep_newest: int = Field(3, ge=0, le=_MOST)
    """Number of most recent states to keep per model and dataset."""
    keep_best: int = Field(3, ge=0, le=_MOST)
    """Number of jobs with the best fitness, per model and dataset, whose states are kept."""
    expire_after_days: int = Field(30, ge=0, le=_HUNDRED_YEARS)
    """Number of days after a job's end for which its state is kept."""
    dry_run: bool = True
    """Whether to report states instead of deleting them."""


class AuditRequest(Request):
    """Every parameter of `audit_checkpoints`."""

    dag_id = "audit_checkpoints"

    full: bool = Field(
        False,
        description="Read every recorded object again and compare it with its recorded SHA-256. Takes as "
        "long as downloading all of them.",
    )
    sample: int = Field(
        20,
        ge=0,
        le=10_000,
        description="Number of recorded objects, chosen at random, to read again if full is off.",
    )
    repair: bool = Field(
        True,
        description="Repair whatever can be repaired safely; if off, only report the findings.",
    )
    keep_newest: int | None = Field(
        None,
        ge=0,
        le=_MOST,
        description="Number of most recent training states to keep per model and dataset. Default: the value "
        f"in Variable {POLICY_VARIABLE}, or 3 if it has none.",
    )
    keep_best: int | None = Field(
        None,
        ge=0,
        le=_MOST,
        description="Number of jobs with the best fitness, per model and dataset, whose states are also "
        f"kept. Default: the value in Variable {POLICY_VARIABLE}, or 3 if it has none.",
    )
    expire_after_days: int | None = Field(
        None,
        ge=0,
        le=_HUNDRED_YEARS,
        description="Number of days for which any other state is kept after its job has ended. Default: the "
        f"value in Variable {POLICY_VARIABLE}, or 30 if it has none.",
    )
    dry_run: bool = Field(
        True,
        description="Only report which states would be deleted and how many bytes that would free; delete "
        "nothing.",
    )

    def choose_policy(self, deployment: str | None) -> RetentionPolicy:
        """Return the policy: each value comes from the run, else from the deployment, else from the defaults.

        `deployment` is the Variable's value; None if it is not set. Raises RequestRefused if that value is
        invalid.
        """
        fields = set(RetentionPolicy.model_fields)
        given = self.model_dump(include=fields, exclude_unset=True, exclude_none=True)
        return _parse_policy(deployment).model_copy(update=given)


def _parse_policy(value: str | None) -> RetentionPolicy:
    if value is None:
        return RetentionPolicy()
    try:
        return RetentionPolicy.model_validate_json(value)
    except ValidationError as error:
        wrong = find_first_error(error, RetentionPolicy, POLICY_VARIABLE)
        what = wrong if wrong.field else "it is not a JSON object"
        raise RequestRefused(
            f"Variable {POLICY_VARIABLE}={show_value(value)}: {what}. Set it to something like "
            '{"keep_newest": 3, "keep_best": 3, "expire_after_days": 30, "dry_run": false}'
        ) from None
