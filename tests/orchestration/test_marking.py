"""The deletion of a run in Airflow is recorded for its job once committed, and not if it is rolled back."""

from __future__ import annotations

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from include.jobs.repository import JobRepository
from include.orchestration import marking
from tests.support.jobs import claim, recorded
from tests.support.waiting import until


class Base(DeclarativeBase):
    """Tables in place of Airflow's."""


class Run(Base):
    """A run as Airflow's API server deletes it."""

    __tablename__ = "dag_run"
    run_id: Mapped[str] = mapped_column(primary_key=True)
    dag_id: Mapped[str]


def test_only_a_committed_deletion_of_a_run_is_recorded(
    jobs: JobRepository, migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_TRAINING_DB", migrated_url)
    deleted: list[str] = []
    write = marking._write

    def tell_and_write(dag_id: str, run_id: str, reason: str) -> None:
        deleted.append(run_id)
        write(dag_id, run_id, reason)

    monkeypatch.setattr(marking, "_write", tell_and_write)
    claim(jobs)
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    marking._watch_deletions(Run)
    with Session(engine) as session:
        session.add_all([Run(run_id="run1", dag_id="train_yolo"), Run(run_id="run2", dag_id="train_yolo")])
        session.commit()
        session.delete(session.get_one(Run, "run1"))
        session.flush()
        session.rollback()
        session.delete(session.get_one(Run, "run2"))
        session.commit()
        until(lambda: deleted == ["run2"], "the record of the other run")
        assert recorded(jobs).error is None
        session.delete(session.get_one(Run, "run1"))
        session.commit()
    until(lambda: recorded(jobs).status == "failed", "the record")
    assert (recorded(jobs).error or "").startswith("The run was deleted in Airflow")
