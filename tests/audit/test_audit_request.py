"""Input of `audit_checkpoints`: the parameters of a run, and the policy of the deployment."""

from __future__ import annotations

import pytest

from include.audit.request import AuditRequest, RetentionPolicy
from include.request import RequestRefused

DEPLOYED = '{"keep_newest": 5, "expire_after_days": 90, "dry_run": false}'


def _refusal(conf: dict[str, object], deployed: str | None = None) -> str:
    with pytest.raises(RequestRefused) as refusal:
        AuditRequest.parse(conf).choose_policy(deployed)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def test_nothing_is_deleted_by_default() -> None:
    request = AuditRequest.parse({})
    assert (request.repair, request.full, request.sample) == (True, False, 20)
    assert request.choose_policy(None) == RetentionPolicy(
        keep_newest=3, keep_best=3, expire_after_days=30, dry_run=True
    )


def test_a_parameter_that_a_run_omits_comes_from_the_deployment() -> None:
    policy = AuditRequest.parse({"keep_newest": 1, "keep_best": None}).choose_policy(DEPLOYED)
    assert policy == RetentionPolicy(keep_newest=1, keep_best=3, expire_after_days=90, dry_run=False)


def test_whole_floats_are_accepted() -> None:
    assert AuditRequest.parse({"sample": 7.0, "keep_best": 2.0}) == AuditRequest(sample=7, keep_best=2)


def test_a_run_that_asks_for_a_dry_run_gets_one_under_any_policy() -> None:
    assert AuditRequest.parse({"dry_run": True}).choose_policy(DEPLOYED).dry_run is True


def test_an_unknown_parameter_is_refused_with_the_known_ones() -> None:
    assert "keep is not a parameter of audit_checkpoints; its parameters are full, sample" in _refusal(
        {"keep": 3}
    )


@pytest.mark.parametrize(
    ("conf", "field"),
    [
        ({"keep_newest": -1}, "keep_newest=-1 is refused"),
        ({"sample": 10_001}, "sample=10001 is refused"),
        ({"expire_after_days": 1.5}, "expire_after_days=1.5 is refused"),
        ({"dry_run": "no"}, "dry_run='no' is refused"),
    ],
)
def test_an_impossible_value_is_refused_with_an_error_that_names_it(
    conf: dict[str, object], field: str
) -> None:
    assert field in _refusal(conf)


@pytest.mark.parametrize(
    ("deployed", "sentence"),
    [
        ("keep everything", "is not a JSON object"),
        ("[3]", "is not a JSON object"),
        ('{"keep": 3}', "keep is not a parameter of retention_policy"),
        ('{"keep_best": -3}', "keep_best=-3 is refused"),
    ],
)
def test_a_variable_that_is_not_a_policy_is_refused_with_an_example(deployed: str, sentence: str) -> None:
    refusal = _refusal({}, deployed)
    assert sentence in refusal
    assert refusal.startswith("Variable retention_policy=")
    assert '{"keep_newest": 3, "keep_best": 3, "expire_after_days": 30, "dry_run": false}' in refusal
