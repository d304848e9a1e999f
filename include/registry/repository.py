"""Reads and writes the table `datasets` with the statements in `sql/queries`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from psycopg.types.json import Jsonb
from pydantic import BaseModel, ConfigDict

from include.database import Statements, fetch_rows, make_storable
from include.jobs.listing import build_pattern
from include.refusals import list_some
from include.registry.errors import DatasetUnknown
from include.registry.version import DatasetSummary, DatasetVersion

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg import Connection

    from include.datasets.reference import DatasetReference
    from include.datasets.registered import RegisteredName
    from include.registry.version import WarningCount

Found = TypeVar("Found", bound=BaseModel)

_NAMED = 20
"""Maximum number of datasets, or of versions, that an error lists."""

_JOBS = 50
"""Maximum number of jobs that are listed for a version."""


class DatasetPosition(NamedTuple):
    """Position of a dataset in the list."""

    changed_at: str
    """When the dataset's newest version was registered, in the database's text form."""
    name: str
    """Name of the dataset."""


@dataclass(frozen=True)
class ListedDataset:
    """A dataset in the list."""

    newest: DatasetSummary
    """The newest version that is not archived; if all are archived, the newest version."""
    versions: int
    """Number of its versions."""
    position: DatasetPosition
    """Where the next page starts if this dataset is the last of a page."""


@dataclass(frozen=True)
class Registration:
    """What is registered with a version, besides its content."""

    name: str
    """Name of the dataset."""
    run_id: str | None = None
    """Dag run that registers the version."""
    created_by: str | None = None
    """User who triggered that run."""
    note: str | None = None
    """The user's note on the version."""
    only_if_changed: bool = False
    """If true, create no version if the newest version from the same address has this content. That version
    may be archived, and versions from other addresses may have followed it."""


class DatasetJob(BaseModel):
    """A job, of any status, that uses a version of a dataset."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    job_id: str
    """Id of the job."""
    status: str | None
    """Status of the job, as in its row, which a host application may write."""
    created_at: datetime | None
    """When the job's row was created; null if it is unknown."""
    triggered_by: str | None
    """User who started the job; null if it is unknown."""


class DatasetRepository:
    """Reads and writes versions of datasets over one psycopg connection.

    Each method runs in the caller's transaction if one is open; otherwise, it commits one of its own. The
    caller closes the connection.
    """

    def __init__(self, connection: Connection[Any]) -> None:
        self._connection, self._statements = connection, Statements(connection)

    def get(self, name: str, version: int | None = None) -> DatasetVersion | None:
        """Return the version or, without a number, the newest that is not archived; None if there is none."""
        return self._find_one("find_dataset_version", name=name, version=version)

    def require(self, registered: RegisteredName) -> DatasetVersion:
        """Return the version that `registered` names. Raises DatasetUnknown, which lists existing names."""
        found = self.get(registered.name, registered.version)
        if found is None:
            raise DatasetUnknown(f"dataset={str(registered)!r} {self._explain_missing(registered)}")
        return found

    def require_version(self, name: str, version: int) -> DatasetVersion:
        """Return the version with this number. Raises DatasetUnknown."""
        found = self.get(name, version)
        if found is None:
            raise DatasetUnknown(f"version={version} of dataset {name!r:.140} is not registered")
        return found

    def find_of_run(self, run_id: str, name: str) -> DatasetVersion | None:
        """Return the version of the dataset that the Dag run registered; None if it registered none."""
        return self._find_one("find_dataset_of_run", run_id=run_id, name=name)

    def find_at_source(self, source: str, name: str | None = None) -> Sequence[DatasetVersion]:
        """Return the newest version from this address of each dataset, or only of the dataset `name`.

        Archived versions are returned, too, because they show that the content was registered before.
        """
        return self._find_all(DatasetVersion, "find_datasets_at_source", source=source.rstrip("/"), name=name)

    def find_changing(self, name: str, uploads: str) -> DatasetVersion | None:
        """Return the newest version whose data are not below the URI `uploads`; None if there is none.

        A version that is not archived precedes all that are.
        """
        return self._find_one("find_changing_dataset", name=name, uploads=uploads)

    def list_versions(
        self, name: str, limit: int = 100, before: int | None = None
    ) -> Sequence[DatasetSummary]:
        """Return versions of the dataset, newest first; with `before`, only versions with lower numbers."""
        return self._find_all(DatasetSummary, "list_dataset_versions", name=name, before=before, limit=limit)

    def list_jobs(self, name: str, version: int) -> Sequence[DatasetJob]:
        """Return up to _JOBS of the newest jobs that use the version of the dataset."""
        return self._find_all(DatasetJob, "list_dataset_jobs", name=name, version=version, limit=_JOBS)

    def list(
        self,
        prefix: str | None = None,
        *,
        archived: bool | None = None,
        limit: int = 100,
        before: DatasetPosition | None = None,
    ) -> Sequence[ListedDataset]:
        """Return datasets whose names start with `prefix`; those with the newest versions come first.

        `archived=True` returns only datasets whose versions are all archived; `archived=False`, all others.
        """
        rows = fetch_rows(
            self._connection,
            "list_datasets",
            pattern=build_pattern(prefix),
            archived=archived,
            limit=limit,
            before_changed_at=before.changed_at if before else None,
            before_name=before.name if before else None,
        )
        return [_parse_listed(row._asdict()) for row in rows]

    def register(
        self,
        registration: Registration,
        dataset: DatasetReference,
        *,
        report: str | None = None,
        warnings: Sequence[WarningCount] | None = None,
    ) -> tuple[DatasetVersion, bool]:
        """Record a checked dataset as the next version of its name, and return the version.

        No version is created if the newest unarchived version has the same content and task, or if this run
        has already registered the dataset. The second value is True if this run created the
        version.
        """
        name = registration.name
        with self._connection.transaction():
            self._statements.fetch_one("lock_dataset", name=name)
            own = self.find_of_run(registration.run_id, name) if registration.run_id else None
            if own is not None and _is_same(own, dataset):
                return own, True
            if (known := self._find_known(registration, dataset)) is not None:
                return known, False
            (number,) = self._statements.fetch_one("next_dataset_version", name=name)
            self._statements.execute(
                "register_dataset_version",
                name=name,
                version=number,
                fingerprint=dataset.fingerprint,
                source=dataset.source,
                origin=dataset.origin,
                task=dataset.task,
                train_images=dataset.train_images,
                val_images=dataset.val_images,
                size=dataset.size,
                class_table=_as_json(dataset.class_table),
                warnings=_as_json(warnings),
                report=report,
                note=registration.note and make_storable(registration.note),
                run_id=registration.run_id,
                created_by=registration.created_by,
            )
            return self.require_version(name, number), True

    def set_archived(self, name: str, version: int, *, archived: bool) -> DatasetVersion:
        """Archive or restore the version, and return it. Raises DatasetUnknown."""
        with self._connection.transaction():
            self._statements.execute("archive_dataset_version", name=name, version=version, archived=archived)
            return self.require_version(name, version)

    def _find_known(self, registration: Registration, dataset: DatasetReference) -> DatasetVersion | None:
        """Return the version that already has this content; None if a new version is needed."""
        known = [newest] if (newest := self.get(registration.name)) else []
        if registration.only_if_changed:
            known += self.find_at_source(dataset.origin or dataset.source, registration.name)
        return next((version for version in known if _is_same(version, dataset)), None)

    def _explain_missing(self, registered: RegisteredName) -> str:
        existing = self.list_versions(registered.name, limit=_NAMED + 1)
        if not existing:
            return f"is not registered: {self._name_others()}"
        numbers = list_some([version.version for version in existing], _NAMED)
        if registered.version is None:
            return (
                f"has only archived versions ({numbers}): name one of them, as in "
                f"'{existing[0]}', or restore one"
            )
        return f"is not registered: the versions of {registered.name} are {numbers}"

    def _name_others(self) -> str:
        rows = fetch_rows(self._connection, "list_dataset_names", limit=_NAMED + 1)
        names = list_some([row.name for row in rows], _NAMED)
        known = f"the registered datasets are {names}" if names else "none is registered yet"
        return (
            f"{known}. Give one of them, 'digits', s3://bucket/… or an absolute path under DATASET_ROOTS; "
            "Ultralytics' own datasets (coco8.yaml, …) are not downloaded automatically"
        )

    def _find_one(self, query: str, **values: Any) -> DatasetVersion | None:
        return next(iter(self._find_all(DatasetVersion, query, **values)), None)

    def _find_all(self, kind: type[Found], query: str, **values: Any) -> Sequence[Found]:
        rows = fetch_rows(self._connection, query, **values)
        return [kind.model_validate(row._asdict()) for row in rows]


def _as_json(models: Sequence[BaseModel] | None) -> Jsonb | None:
    return None if models is None else Jsonb([each.model_dump() for each in models])


def _is_same(version: DatasetVersion, dataset: DatasetReference) -> bool:
    return (version.fingerprint, version.task) == (dataset.fingerprint, dataset.task)


def _parse_listed(row: dict[str, Any]) -> ListedDataset:
    versions, changed_at = row.pop("versions"), row.pop("changed_at")
    newest = DatasetSummary.model_validate(row)
    return ListedDataset(newest, versions, DatasetPosition(changed_at, newest.name))
