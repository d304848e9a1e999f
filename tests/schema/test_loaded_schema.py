"""Other tests load their schema from a dump; the result is the same as after a migration."""

from __future__ import annotations

from typing import Any

import psycopg
from sqlalchemy import Engine

from include.schema.migrations import apply, verify
from include.stack.postgres import TRAINING_APPLICATION
from tests.support import host_applications


def test_the_schema_that_other_tests_load_equals_a_migrated_one(
    engine: Engine,
    host_connection: psycopg.Connection[Any],
    migrated_url: str,
    owner: psycopg.Connection[Any],
) -> None:
    apply(engine, application_role=TRAINING_APPLICATION)
    places = [host_applications.name_of(each) for each in (host_connection, owner)]
    described = [
        {line.replace(place, "") for line in host_applications.structure(each)}
        for each, place in zip((host_connection, owner), places, strict=True)
    ]
    assert described[0] == described[1]
    assert verify(host_applications.engine(migrated_url), application_role=TRAINING_APPLICATION)
