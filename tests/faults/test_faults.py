"""With any fault at any moment, no job is lost, hangs, or names an object that does not exist."""

from __future__ import annotations

import re

import pytest

from tests.support.faults.database_faults import DATABASE_FAULTS
from tests.support.faults.fault import Fault, Moment
from tests.support.faults.job import Job
from tests.support.faults.machine_faults import MACHINE_FAULTS
from tests.support.faults.moments import CHECKING, MOMENTS
from tests.support.faults.people_faults import PEOPLE_FAULTS
from tests.support.faults.report import Report
from tests.support.faults.s3_faults import S3_FAULTS
from tests.support.faults.scene import Scene

pytestmark = pytest.mark.timeout(900)  # the first case also runs the uninterrupted job

FAULTS = (*S3_FAULTS, *DATABASE_FAULTS, *MACHINE_FAULTS, *PEOPLE_FAULTS)

SHORT = {
    "postgresql-connections-killed-in-a-batch",
    "next-attempt-starts-early-in-a-batch",
}
"""The cases that `make test` runs; `make soak` runs all cases."""


def case_id(fault: Fault, moment: Moment) -> str:
    return re.sub(r"[^a-z0-9]+", "-", f"{fault.name} {moment.name}".lower())


def makes_sense(fault: Fault, moment: Moment) -> bool:
    return moment.name in fault.moments if fault.moments else moment is not CHECKING


MATRIX = {
    case_id(fault, moment): (fault, moment)
    for fault in FAULTS
    for moment in (CHECKING, *MOMENTS)
    if makes_sense(fault, moment)
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    is_whole = metafunc.config.getoption("--faults") == "all"
    metafunc.parametrize("case", [case for case in MATRIX if is_whole or case in SHORT])


@pytest.fixture(scope="module")
def fault_report(pytestconfig: pytest.Config) -> Report:
    return Report(pytestconfig.getoption("--report"), list(MATRIX))


@pytest.fixture(scope="module", autouse=True)
def uninterrupted_first(scene: Scene) -> None:
    """Run the uninterrupted job with which the other jobs are compared."""
    assert Job(scene, "uninterrupted").run().problems == []


def test_a_job_that_meets_a_fault_keeps_what_was_promised(
    scene: Scene, fault_report: Report, case: str
) -> None:
    fault, moment = MATRIX[case]
    job = Job(scene, case, fault)
    outcome = job.run(moment)
    fault_report.add(case, fault, moment, outcome)
    assert outcome.problems == []
