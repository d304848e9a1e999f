"""Reading and writing `model_versions`, with the statements in `sql/queries`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from psycopg.types.json import Jsonb

from include.database import Statements, fetch_rows, make_finite
from include.models.errors import NotRegistered, PromotionConflict, PromotionRefused, VersionUnknown
from include.models.version import ModelVersion, Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from psycopg import Connection


class Evidence(TypedDict, total=False):
    """Origin and evaluation of a version, as far as they are known; ModelVersion has the same fields."""

    dataset: str | None
    """Dataset on which the version was trained and evaluated."""
    dataset_fingerprint: str | None
    """Identifies the content of that dataset."""
    parameters_fingerprint: str | None
    """Identifies the parameters that, for given data, determine the trained model."""
    metrics: Mapping[str, Any] | None
    """The version's metrics on the validation split."""
    champion_version: int | None
    """Version in production during the evaluation; None if there was none."""
    champion_metrics: Mapping[str, Any] | None
    """The champion's metrics on the same data."""
    reason: str | None
    """The gate's decision, as a sentence."""


LONGEST_WAIT = 60
"""Longest time to wait for another promotion, in seconds."""

_PAUSE = 1

_NO_EVIDENCE: dict[str, None] = dict.fromkeys(Evidence.__annotations__)
_EVERY = dict.fromkeys(
    (
        "name",
        "version",
        "stage",
        "job_id",
        "path",
        "dataset_fingerprint",
        "parameters_fingerprint",
        "before_name",
        "before_version",
        "limit",
    )
)


class ModelRepository:
    """Reads and writes versions of models over one psycopg connection.

    Each method runs in the caller's transaction if one is open; otherwise, it commits one of its own. The
    caller closes the connection.
    """

    def __init__(self, connection: Connection[Any]) -> None:
        self._connection, self._statements = connection, Statements(connection)

    def require(self, name: str, version: int) -> ModelVersion:
        """Return the version. Raises VersionUnknown, which names the existing versions."""
        found = self._find_one(name=name, version=version)
        if found is not None:
            return found
        newest = self.list(name, limit=1)
        if not newest:
            raise self.explain_unknown(name)
        raise VersionUnknown(
            f"version={version} of model {name} does not exist: its versions are 1 to {newest[0].version}"
        )

    def find_production(self, name: str) -> ModelVersion | None:
        """Return the version that is in production, or None."""
        return self._find_one(name=name, stage=Stage.PRODUCTION)

    def find_at(self, path: str) -> ModelVersion | None:
        """Return the version whose own file is at this s3:// URI, or None."""
        return self._find_one(path=path)

    def find_earlier(self, name: str) -> ModelVersion | None:
        """Return the version to roll back to: the older one that was in production most recently."""
        with self._connection.transaction():
            row = self._statements.fetch_one("find_earlier_model", name=name)
            return self.require(name, row.version) if row else None

    def list(
        self,
        name: str | None = None,
        *,
        stage: Stage | None = None,
        limit: int = 100,
        before: tuple[str, int] | None = None,
    ) -> Sequence[ModelVersion]:
        """Return versions of `name`, or of all models, the newest first.

        `before` is the name and version of the last entry of the previous page.
        """
        before_name, before_version = before or (None, None)
        return self._find(
            name=name, stage=stage, limit=limit, before_name=before_name, before_version=before_version
        )

    def find_trained_with(self, name: str, *, data: str, parameters: str) -> Sequence[ModelVersion]:
        """Return all versions of `name` whose data and parameters have these fingerprints."""
        return self._find(name=name, dataset_fingerprint=data, parameters_fingerprint=parameters)

    def explain_unknown(self, name: str) -> VersionUnknown:
        """Return the error for a model that has no versions."""
        names = [row.name for row in fetch_rows(self._connection, "list_models")]
        known = f"give one of {', '.join(names)}" if names else "none is registered yet; run retrain_yolo"
        return VersionUnknown(f"name={name!r} is not a registered model: {known}")

    def register(
        self,
        name: str,
        *,
        job_id: str,
        run_id: str | None,
        sha256: str,
        size: int,
        place: Callable[[int], str],
        **evidence: Unpack[Evidence],
    ) -> ModelVersion:
        """Register the job's best.pt as the model's next version, a candidate; return that version.

        `place(version)` stores the file and returns its path. No other version gets a number while `place`
        runs, and the row is written afterwards. If the job already has a version of the model, that
        version is returned unchanged. Raises NotRegistered if that version has a different file.
        """
        with self._connection.transaction():
            self._statements.fetch_one("number_model_version", name=name)
            found = self._find_one(name=name, job_id=job_id)
            if found is None:
                (version,) = self._statements.fetch_one("next_model_version", name=name)
                values: dict[str, Any] = {**_NO_EVIDENCE, **evidence}
                for numbers in ("metrics", "champion_metrics"):
                    if values[numbers] is not None:
                        values[numbers] = Jsonb(make_finite(dict(values[numbers])))
                self._statements.execute(
                    "register_model_version",
                    name=name, version=version, job_id=job_id, run_id=run_id,
                    path=place(version), sha256=sha256, size=size, **values,
                )  # fmt: skip
                return self.require(name, version)
        if (found.sha256, found.size) != (sha256, size):
            raise NotRegistered(
                f"Job {job_id} is already {found}, with a different file (SHA-256 {found.sha256}, now "
                f"{sha256}): the job has since been trained again. Train under a new job_id to register "
                "another version"
            )
        return found

    def measure(
        self,
        name: str,
        version: int,
        *,
        metrics: Mapping[str, Any],
        champion_version: int | None,
        champion_metrics: Mapping[str, Any] | None,
        reason: str,
    ) -> ModelVersion:
        """Record a new evaluation of a version, make it a candidate again, and return it.

        A version that is or was in production is left unchanged. Raises VersionUnknown.
        """
        with self._connection.transaction():
            self._statements.execute(
                "measure_model_version",
                name=name,
                version=version,
                metrics=Jsonb(make_finite(dict(metrics))),
                champion_version=champion_version,
                champion_metrics=Jsonb(make_finite(dict(champion_metrics))) if champion_metrics else None,
                reason=reason,
            )
            return self.require(name, version)

    def reject(self, name: str, version: int, reason: str) -> ModelVersion:
        """Reject a candidate, recording why, and return it; an already rejected version gets the new reason.

        Raises VersionUnknown, and PromotionRefused for a version that is or was in production.
        """
        with self._connection.transaction():
            values = {"name": name, "version": version, "reason": reason}
            if not self._statements.execute("reject_model_version", **values):
                found = self.require(name, version)
                raise PromotionRefused(
                    f"The stage of {found} is {found.stage}: it has been promoted, so it can no longer "
                    "be rejected; roll back with promote_model instead"
                )
            return self.require(name, version)

    def begin_promotion(self, name: str, version: int) -> ModelVersion:
        """Lock the model against other promotions until the end of the transaction, and return the version.

        Until then, the version cannot be rejected either. Raises PromotionConflict.
        """
        row = self._statements.fetch_one("try_lock_model", name=name)
        if not row.locked:
            raise PromotionConflict(
                f"Another promotion of model {name} is under way, so version {version} was not promoted. "
                "Wait until it has ended, check which version is in production then, and trigger this "
                "promotion again if you still want it"
            )
        self._statements.fetch_one("lock_model_version", name=name, version=version)
        return self.require(name, version)

    def wait_for_promotion(self, name: str) -> None:
        """Wait until no promotion of the model is under way, but not for more than a minute."""
        deadline = time.monotonic() + LONGEST_WAIT
        while True:
            (row,) = fetch_rows(self._connection, "try_lock_model", name=name)  # the lock is released at once
            if row.locked or time.monotonic() > deadline:
                return
            time.sleep(_PAUSE)

    def record_signature(self, name: str, version: int, sha256: str) -> None:
        """Record the SHA-256 of the version's signature."""
        with self._connection.transaction():
            self._statements.execute("record_model_signature", name=name, version=version, sha256=sha256)

    def promote(self, name: str, version: int, *, by: str | None, reason: str | None) -> ModelVersion:
        """Put the version into production, archive the previous one, and return the new one.

        Without `reason`, the recorded reason is kept. Raises VersionUnknown.
        """
        with self._connection.transaction():
            self._statements.execute("archive_production_model", name=name)
            self._statements.execute(
                "promote_model_version", name=name, version=version, promoted_by=by, reason=reason
            )
            return self.require(name, version)

    def _find_one(self, **filters: Any) -> ModelVersion | None:
        found = self._find(limit=1, **filters)
        return found[0] if found else None

    def _find(self, **filters: Any) -> Sequence[ModelVersion]:
        rows = fetch_rows(self._connection, "find_model_versions", **_EVERY | filters)
        return [ModelVersion.model_validate(row._asdict()) for row in rows]
