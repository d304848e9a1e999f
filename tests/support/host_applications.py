"""Tables `training_jobs` of existing host applications, and functions that show whether they have changed."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from sqlalchemy import Engine

from include.schema.migrations import apply
from include.schema.session import make_engine
from include.stack.local import Stack
from include.stack.postgres import TRAINING_APPLICATION, TRAINING_OWNER, Postgres

Connection = psycopg.Connection[Any]


@dataclass(frozen=True)
class HostApplication:
    """A host application: `key` is its primary key, `create` creates its table, and `insert` adds a row."""

    key: str
    create: str
    insert: str


_SHARED = """
    name text NOT NULL,
    status varchar(20) NOT NULL DEFAULT 'queued',
    config json,
    best_checkpoint_path varchar(500),
    created_at timestamp NOT NULL DEFAULT '2024-05-06 07:08:09',
    touched integer NOT NULL DEFAULT 0
"""

HOST_APPLICATIONS = {
    "integer": HostApplication(
        "id",
        f"CREATE TABLE training_jobs (id serial PRIMARY KEY, {_SHARED})",
        "INSERT INTO training_jobs (name) VALUES (%(name)s)",
    ),
    "identity": HostApplication(
        "Job Number",
        'CREATE TABLE training_jobs ("Job Number" bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, '
        f"{_SHARED})",
        "INSERT INTO training_jobs (name) VALUES (%(name)s)",
    ),
    "uuid": HostApplication(
        "id",
        f"CREATE TABLE training_jobs (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), {_SHARED})",
        "INSERT INTO training_jobs (name) VALUES (%(name)s)",
    ),
    "varchar": HostApplication(
        "id",
        f"CREATE TABLE training_jobs (id varchar(64) PRIMARY KEY, {_SHARED})",
        "INSERT INTO training_jobs (id, name) VALUES (md5(%(name)s), %(name)s)",
    ),
}

# A host application's own objects on its table: our migrations must neither trigger nor break them.
_AROUND = """
CREATE FUNCTION count_touches() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.touched := NEW.touched + 1; RETURN NEW; END $$;
CREATE TRIGGER count_touches BEFORE UPDATE ON training_jobs FOR EACH ROW EXECUTE FUNCTION count_touches();
CREATE VIEW queued_jobs AS SELECT * FROM training_jobs WHERE status = 'queued';
CREATE INDEX ON training_jobs (name);
"""

ROWS = 50


@dataclass(frozen=True)
class Database:
    """An empty database or schema, with a URL for the role that owns it and one for all other work."""

    owner_url: str
    url: str

    def migrate(self, target: str = "head") -> str:
        """Migrate as the Dag does, and return the URL for all other work."""
        apply(engine(self.owner_url), target, application_role=TRAINING_APPLICATION)
        return self.url


def database(postgres: Postgres, name: str, options: str = "") -> Database:
    """Return the database of that name, with URLs that carry libpq options."""
    owner, application = (
        f"{postgres.build_url(name, role)}{options}" for role in (TRAINING_OWNER, TRAINING_APPLICATION)
    )
    return Database(owner, application)


@contextmanager
def fresh_schema(postgres: Postgres) -> Iterator[Database]:
    """Yield an empty schema, alone on the search path, which is much faster to create than a database."""
    schema = f"host_application_{secrets.token_hex(4)}"
    with psycopg.connect(postgres.build_url("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema} AUTHORIZATION {TRAINING_OWNER}")
        yield database(postgres, "postgres", f"?options=-csearch_path%3D{schema}")
        connection.execute(f"DROP SCHEMA {schema} CASCADE")


_NAME = "name_of_the_schema"


def dump(postgres: Postgres, schema: Database) -> str:
    """Return the SQL that makes the tables of a schema, for `load`."""
    with psycopg.connect(schema.owner_url) as connection:
        name = name_of(connection)
    url = schema.owner_url.partition("?")[0]
    command = [str(postgres.programs / "pg_dump"), "--inserts", "--no-owner", f"--schema={name}", url]
    dumped = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    # Omit psql's commands, which Psycopg does not understand, and CREATE SCHEMA, because the schema exists.
    lines = [line for line in dumped.splitlines() if not line.startswith(("\\", "CREATE SCHEMA "))]
    return "\n".join(lines).replace(name, _NAME)


def load(schema: Database, dumped: str) -> str:
    """Make the dumped tables in an empty schema, and return the schema's URL for all other work."""
    with psycopg.connect(schema.owner_url, autocommit=True) as connection:
        connection.execute(dumped.replace(_NAME, name_of(connection)))
    return schema.url


def name_of(connection: Connection) -> str:
    """Return the name of the schema that the connection uses."""
    found = connection.execute("SELECT current_schema()").fetchone()
    assert found
    return str(found[0])


def migrate(stack: Stack) -> None:
    """Migrate the stack's own training database as the Dag does."""
    database(stack.postgres, "training").migrate()


def install(connection: Connection, host_application: HostApplication) -> None:
    """Create the host application's table with a trigger, a view and an index, and fill the table."""
    connection.execute(host_application.create)
    connection.execute(_AROUND)
    with connection.cursor() as cursor:
        cursor.executemany(host_application.insert, [{"name": f"job {number}"} for number in range(ROWS)])
    connection.execute(
        "UPDATE training_jobs SET best_checkpoint_path = 's3://models/' || name, "
        "config = '{\"b\": 1,  \"a\": [2]}' WHERE name LIKE '%5'"
    )
    connection.commit()


def rows(connection: Connection, columns: list[str]) -> list[str]:
    """Return the text of each row in these columns, ordered by the host application's column `name`."""
    shown = ", ".join(f'"{column}"' for column in columns)
    selected = connection.execute(f"SELECT ROW({shown})::text FROM training_jobs ORDER BY name")
    found = [row[0] for row in selected]
    connection.commit()
    return found


def columns(connection: Connection) -> list[str]:
    """Return the names of the columns of training_jobs."""
    found = connection.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = 'training_jobs'::regclass AND attnum > 0 "
        "AND NOT attisdropped ORDER BY attnum"
    )
    names = [row[0] for row in found]
    connection.commit()
    return names


def structure(connection: Connection) -> set[str]:
    """Describe the schema: its relations, columns, constraints, indexes, triggers and functions."""
    found = connection.execute(
        """
        SELECT 'relation ' || relname FROM pg_class
        WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'v', 'S')
        UNION ALL
        SELECT concat_ws(' ', 'column', attrelid::regclass, attname, format_type(atttypid, atttypmod),
            attnotnull, pg_get_expr(adbin, adrelid))
        FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid LEFT JOIN pg_attrdef ON adrelid = attrelid
            AND adnum = attnum
        WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'v') AND attnum > 0
            AND NOT attisdropped
        UNION ALL
        SELECT 'constraint ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
        WHERE connamespace = current_schema()::regnamespace
        UNION ALL
        SELECT 'index ' || indexdef FROM pg_indexes WHERE schemaname = current_schema()
        UNION ALL
        SELECT 'trigger ' || pg_get_triggerdef(pg_trigger.oid)
        FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
        WHERE relnamespace = current_schema()::regnamespace AND NOT tgisinternal
        UNION ALL
        SELECT 'function ' || proname FROM pg_proc WHERE pronamespace = current_schema()::regnamespace
        """
    )
    seen = {row[0] for row in found}
    connection.commit()
    return seen


def engine(url: str, **options: Any) -> Engine:
    """Return an engine like the one that the Dag creates."""
    return make_engine(lambda: psycopg.connect(url, **options))
