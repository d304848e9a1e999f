"""The only way to `model_versions`, by the statements of `sql/queries`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from psycopg.types.json import Jsonb

from include.database import Statements
from include.jobs.storable import finite
from include.models.errors import NotRegistered, PromotionConflict, PromotionRefused, VersionUnknown
from include.models.version import ModelVersion, Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from psycopg import Connection


class Evidence(TypedDict, total=False):
    """What a version was made from and measured by, as far as it is known: columns of ModelVersion."""

    dataset: str | None
    dataset_fingerprint: str | None
    parameters_fingerprint: str | None
    metrics: Mapping[str, Any] | None
    champion_version: int | None
    champion_metrics: Mapping[str, Any] | None
    reason: str | None


_NO_EVIDENCE: dict[str, None] = dict.fromkeys(Evidence.__annotations__)
_EVERY = dict.fromkeys(
    ("name", "version", "stage", "job_id", "run_id", "before_name", "before_version", "limit")
)


class ModelRepository:
    """Reads and writes versions of models over one psycopg connection.

    Each method is one transaction, committed when it returns, or a part of the caller's where one is open.
    The connection stays the caller's to close.
    """

    def __init__(self, connection: Connection[Any]) -> None:
        self._connection, self._statements = connection, Statements(connection)

    def get(self, name: str, version: int) -> ModelVersion | None:
        """Return the version, or None if there is no such row."""
        return self._one(name=name, version=version)

    def require(self, name: str, version: int) -> ModelVersion:
        """Return the version. Raises VersionUnknown, which names what there is."""
        found = self.get(name, version)
        if found is not None:
            return found
        newest = self.list(name, limit=1)
        if not newest:
            raise self.unknown(name)
        raise VersionUnknown(
            f"version={version} is none of model {name}: they are 1 to {newest[0].version}; give one of those"
        )

    def production(self, name: str) -> ModelVersion | None:
        """Return the version that is in production, or None."""
        return self._one(name=name, stage=Stage.PRODUCTION)

    def earlier(self, name: str) -> ModelVersion | None:
        """Return the version to roll back to: older than the one in production, and the last that was."""
        with self._connection.transaction():
            row = self._statements.row("find_earlier_model", name=name)
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

        before is name and version of the last one of the page before this.
        """
        before_name, before_version = before or (None, None)
        return self._find(
            name=name, stage=stage, limit=limit, before_name=before_name, before_version=before_version
        )

    def of_run(self, run_id: str) -> Sequence[ModelVersion]:
        """Return what the Dag run registered, the newest first."""
        return self._find(run_id=run_id)

    def names(self) -> Sequence[str]:
        """Return the names of all models in their order."""
        with self._connection.transaction():
            return [row.name for row in self._statements.rows("list_models")]

    def unknown(self, name: str) -> VersionUnknown:
        """Return the error for a model that has no versions."""
        names = self.names()
        known = f"give one of {', '.join(names)}" if names else "none was registered yet; run retrain_yolo"
        return VersionUnknown(f"name={name!r} is no model: {known}")

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
        """Make the job's best.pt the next version of the model, a candidate, and return it.

        place(version) puts the file where it belongs and returns its path; meanwhile nobody else gets a
        number, and the row is written only when it has returned. A job that is registered already stays as it
        is. Raises NotRegistered if that was with another file.
        """
        with self._connection.transaction():
            self._statements.row("number_model_version", name=name)
            found = self._one(name=name, job_id=job_id)
            if found is None:
                (version,) = self._statements.row("next_model_version", name=name)
                values: dict[str, Any] = {**_NO_EVIDENCE, **evidence}
                for numbers in ("metrics", "champion_metrics"):
                    if values[numbers] is not None:
                        values[numbers] = Jsonb(finite(dict(values[numbers])))
                self._statements.changed(
                    "register_model_version",
                    name=name, version=version, job_id=job_id, run_id=run_id,
                    path=place(version), sha256=sha256, size=size, **values,
                )  # fmt: skip
                return self.require(name, version)
        if (found.sha256, found.size) != (sha256, size):
            raise NotRegistered(
                f"Job {job_id} is {found} already, with another file (SHA-256 {found.sha256}, now {sha256}): "
                "the job was trained again since. Train under a new job_id: that becomes a version of its own"
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
        """Record what a version reached when it was measured again, and return it: a candidate once more.

        One that is or was in production stays as it is. Raises VersionUnknown.
        """
        with self._connection.transaction():
            self._statements.changed(
                "measure_model_version",
                name=name,
                version=version,
                metrics=Jsonb(finite(dict(metrics))),
                champion_version=champion_version,
                champion_metrics=Jsonb(finite(dict(champion_metrics))) if champion_metrics else None,
                reason=reason,
            )
            return self.require(name, version)

    def reject(self, name: str, version: int, reason: str) -> ModelVersion:
        """Record why a candidate was refused, and return it; a version that was refused gets the new reason.

        Raises VersionUnknown, and PromotionRefused for one that is or was in production.
        """
        with self._connection.transaction():
            values = {"name": name, "version": version, "reason": reason}
            if not self._statements.changed("reject_model_version", **values):
                found = self.require(name, version)
                raise PromotionRefused(
                    f"The stage of {found} is {found.stage}: it was promoted meanwhile, so it cannot be "
                    "refused any more; roll back with promote_model instead"
                )
            return self.require(name, version)

    def begin_promotion(self, name: str, version: int) -> ModelVersion:
        """Keep everybody else from promoting a version of this model, until the end of the transaction.

        Returns the version as it is now; nobody can refuse it meanwhile. Raises PromotionConflict.
        """
        row = self._statements.row("try_lock_model", name=name)
        if not row.locked:
            raise PromotionConflict(
                f"Another promotion of model {name} is under way, so version {version} was not promoted. "
                "Wait until that one has ended, look what is in production then, and trigger this one again "
                "if you still want it"
            )
        self._statements.row("lock_model_version", name=name, version=version)
        return self.require(name, version)

    def promote(self, name: str, version: int, *, by: str | None, reason: str | None) -> ModelVersion:
        """Make the version the one in production, archive the present one, and return the new one.

        Without a reason the one that was recorded stays. Raises VersionUnknown.
        """
        with self._connection.transaction():
            self._statements.changed("archive_production_model", name=name)
            self._statements.changed(
                "promote_model_version", name=name, version=version, promoted_by=by, reason=reason
            )
            return self.require(name, version)

    def _one(self, **filters: Any) -> ModelVersion | None:
        found = self._find(limit=1, **filters)
        return found[0] if found else None

    def _find(self, **filters: Any) -> Sequence[ModelVersion]:
        with self._connection.transaction():
            rows = self._statements.rows("find_model_versions", **_EVERY | filters)
        return [ModelVersion.model_validate(row._asdict()) for row in rows]
