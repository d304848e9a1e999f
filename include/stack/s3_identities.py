"""One S3 identity per role, with the policies of config/s3-policies, in the form that SeaweedFS reads.

    python -m include.stack.s3_identities FILE     docker-compose.yaml runs this before its S3 server

The environment contains S3_{ROLE}_ACCESS_KEY_ID and S3_{ROLE}_SECRET_ACCESS_KEY for each role. While keys are
being replaced, S3_PREVIOUS_KEYS contains the old ones as `role:access key:secret key`, separated by commas.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from include.deployment.settings import DEFAULT_BUCKET, Settings
from include.stack.errors import StackError
from include.stack.private_files import write_private

POLICIES = Path(__file__).parents[2] / "config" / "s3-policies"
"""A policy per role, for Amazon's IAM."""


class Role(StrEnum):
    """The users of S3, each with its own keys."""

    OWNER = "owner"
    """People who administer the deployment. This role also creates the bucket."""
    WORKER = "worker"
    """Tasks, through connection `training_s3`."""
    API = "api"
    """The API server, through its connection `training_s3`. This role also signs the links for browsers."""
    MAINTENANCE = "maintenance"
    """Tasks that delete, through connection `training_s3_maintenance`."""


@dataclass(frozen=True)
class Keys:
    """A pair of keys with which a role signs its requests to S3."""

    access_key: str
    """Public part: names the keys in each request."""
    secret_key: str
    """Secret part: signs the requests."""


def build_policy(role: Role, buckets: Sequence[str]) -> dict[str, Any]:
    """Return the role's policy for these buckets, whose names may contain `*`."""
    policy: dict[str, Any] = json.loads((POLICIES / f"{role}.json").read_text())
    for statement in policy["Statement"]:
        statement["Resource"] = _repeat_per_bucket(statement["Resource"], buckets)
        for condition in statement.get("Condition", {}).values():
            for key, value in condition.items():
                condition[key] = _repeat_per_bucket(value, buckets)
    return policy


def render_identities(keys: Mapping[Role, Sequence[Keys]], buckets: Sequence[str]) -> str:
    """Return the content of SeaweedFS' `-s3.config`, which lets each role do what its policy allows.

    The owner is an exception: it administers the server, and may create and use every bucket.
    """
    identities = [
        {
            "name": str(role),
            "credentials": [
                {"accessKey": each.access_key, "secretKey": each.secret_key} for each in accepted
            ],
            **({"actions": ["Admin"]} if role is Role.OWNER else {"policyNames": [str(role)]}),
        }
        for role, accepted in keys.items()
    ]
    policies = [
        {"name": str(role), "content": json.dumps(build_policy(role, buckets))}
        for role in keys
        if role is not Role.OWNER
    ]
    return json.dumps({"identities": identities, "policies": policies}, indent=2) + "\n"


def _repeat_per_bucket(value: str | list[str], buckets: Sequence[str]) -> list[str]:
    """Return each value once per bucket, with the bucket's name in place of the default bucket's."""
    values = [value] if isinstance(value, str) else value
    return [each.replace(DEFAULT_BUCKET, bucket) for each in values for bucket in buckets]


def read_keys(environment: Mapping[str, str]) -> dict[Role, list[Keys]]:
    """Return each role's keys. Raises StackError if a role has no keys, or S3_PREVIOUS_KEYS is malformed."""
    keys = {role: [_require_keys(environment, f"S3_{role.upper()}")] for role in Role}
    for previous in filter(None, environment.get("S3_PREVIOUS_KEYS", "").split(",")):
        try:
            role, access_key, secret_key = previous.strip().split(":")
            keys[Role(role)].append(Keys(access_key, secret_key))
        except ValueError:
            raise StackError(
                "S3_PREVIOUS_KEYS must be a comma-separated list of role:access_key:secret_key; the roles "
                f"are {', '.join(Role)}."
            ) from None
    return keys


def _require_keys(environment: Mapping[str, str], prefix: str) -> Keys:
    names = f"{prefix}_ACCESS_KEY_ID", f"{prefix}_SECRET_ACCESS_KEY"
    access_key, secret_key = (environment.get(name, "") for name in names)
    if not access_key or not secret_key:
        raise StackError(f"{names[0]} or {names[1]} is not set; set both in .env.")
    return Keys(access_key, secret_key)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m include.stack.s3_identities", description=__doc__)
    parser.add_argument("file", type=Path, help="the file for SeaweedFS' -s3.config")
    content = render_identities(read_keys(os.environ), [Settings.from_environment().bucket])
    write_private(parser.parse_args().file, content)
