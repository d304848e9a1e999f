"""One set of services for the whole matrix."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from include.schema.migrations import apply
from tests import platforms
from tests.faults.database_door import DatabaseDoor
from tests.faults.hold import Hold
from tests.faults.s3_proxy import S3Proxy
from tests.faults.scene import Backend, Scene
from tests.interrupted_attempts import Place

if TYPE_CHECKING:
    from include.stack.postgres import Postgres
    from include.stack.s3 import S3

DATABASE, PASSWORD = "faults", "faults-password"


@pytest.fixture(scope="session")
def scene(postgres: Postgres, s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """All that the jobs need; the bucket and the database go with the servers."""
    client, hold = s3.client(), Hold()
    client.create_bucket(Bucket=(bucket := f"faults-{secrets.token_hex(6)}"))
    postgres.ensure_database(
        DATABASE, DATABASE, PASSWORD
    )  # of a role like a deployment's, with no more rights
    url = postgres.url(DATABASE, DATABASE, PASSWORD)
    with (
        S3Proxy(s3.endpoint_url, hold) as proxy,
        DatabaseDoor(url, hold) as door,
        Backend() as backend,
    ):
        apply(platforms.engine(url))
        place = Place(s3, client, bucket, url, tmp_path_factory.mktemp("faults"))
        scene = Scene(place, postgres.url(DATABASE), hold, proxy, door, backend)
        scene.prepare()
        yield scene
