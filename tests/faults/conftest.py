"""One set of services for the whole fault matrix."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from include.schema.migrations import apply
from tests.support import host_applications
from tests.support.faults.database_door import DatabaseProxy
from tests.support.faults.hold import Hold
from tests.support.faults.s3_proxy import S3Proxy
from tests.support.faults.scene import Backend, Scene
from tests.support.interrupted_attempts import Place

if TYPE_CHECKING:
    from include.stack.postgres import Postgres
    from include.stack.s3 import S3

DATABASE = "faults"


@pytest.fixture(scope="session")
def scene(postgres: Postgres, s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Yield all services that the jobs need; bucket and database are removed with their servers."""
    client, hold = s3.client(), Hold()
    client.create_bucket(Bucket=(bucket := f"test-faults-{secrets.token_hex(6)}"))
    # An owner and an application role, as in a deployment. Other tests use other roles, because the faults
    # revoke rights of these.
    roles = {"faults_owner": "owner-password", "faults": "faults-password"}
    postgres = replace(postgres, roles=roles)
    postgres.ensure_roles()
    postgres.ensure_database(DATABASE, "faults_owner", "faults")
    url = postgres.build_url(DATABASE, "faults")
    with (
        S3Proxy(s3.endpoint_url, hold) as proxy,
        DatabaseProxy(url, hold) as database,
        Backend() as backend,
    ):
        apply(
            host_applications.engine(postgres.build_url(DATABASE, "faults_owner")), application_role="faults"
        )
        place = Place(s3, client, bucket, url, tmp_path_factory.mktemp("faults"))
        scene = Scene(place, postgres.build_url(DATABASE), hold, proxy, database, backend)
        scene.prepare()
        yield scene
