"""The settings of quotas: their syntax, and the users to whom they apply."""

from __future__ import annotations

import pytest

from include.deployment.settings import SettingRefused, Settings
from include.jobs.quota import Quota, Quotas


def test_without_settings_no_user_is_limited() -> None:
    assert Quotas.parse("", "", "").of("ada") == Quota(gpus=None, gpu_hours=None)


def test_an_exception_replaces_both_limits_of_its_user() -> None:
    quotas = Quotas.parse("2", "100.5", "ada=4:none, eve@example.com=none:40,a=b=0:0")
    assert quotas.of("bob") == Quota(2, 100.5)
    assert quotas.of("ada") == Quota(4, None)
    assert quotas.of("eve@example.com") == Quota(None, 40.0)
    assert quotas.of("a=b") == Quota(0, 0.0)


def test_a_job_without_an_owner_has_no_quota() -> None:
    assert Quotas.parse("1", "1", "").of(None) == Quota()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"QUOTA_GPUS": "two"}, "QUOTA_GPUS='two' is not a whole number of GPUs; correct it, or give none"),
        ({"QUOTA_GPUS": "1.5"}, "QUOTA_GPUS='1.5' is not a whole number of GPUs"),
        ({"QUOTA_GPU_HOURS": "-1"}, "QUOTA_GPU_HOURS='-1' is not a number of GPU hours"),
        ({"QUOTA_GPU_HOURS": "inf"}, "QUOTA_GPU_HOURS='inf' is not a number of GPU hours"),
        ({"QUOTA_GPU_HOURS": "nan"}, "QUOTA_GPU_HOURS='nan' is not a number of GPU hours"),
        ({"QUOTA_USERS": "ada=4"}, "QUOTA_USERS has 'ada=4', which is not an exception like alice=4:100"),
        ({"QUOTA_USERS": "4:100"}, "QUOTA_USERS has '4:100', which is not an exception like alice=4:100"),
        ({"QUOTA_USERS": "ada=4:"}, "QUOTA_USERS has 'ada=4:', which is not an exception"),
        ({"QUOTA_USERS": "ada=x:1"}, "QUOTA_USERS='x' is not a whole number of GPUs"),
    ],
)
def test_a_malformed_quota_setting_is_refused_with_its_name(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], message: str
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingRefused) as refusal:
        Settings.from_environment()
    assert message in str(refusal.value)
