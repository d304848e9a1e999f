"""The two roles of the training database: one owns the tables, the other reads and writes their rows."""

from __future__ import annotations

import re
import secrets
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine

from include.queries import QUERIES, load_query
from include.schema.current import MIGRATIONS, list_revisions, require_current
from include.schema.errors import MigrationRefused, SchemaBehind, SchemaUnverified
from include.schema.migrations import apply, rehearse, verify
from include.schema.privileges import KEPT_TABLES, PRIVILEGES
from include.schema.verification import collect_promised_columns
from include.stack.postgres import TRAINING_APPLICATION, TRAINING_OWNER, Postgres
from tests.support import host_applications
from tests.support.host_applications import HOST_APPLICATIONS, Database

Connection = psycopg.Connection[Any]


@pytest.fixture
def superuser(postgres: Postgres) -> Iterator[Connection]:
    with psycopg.connect(postgres.build_url("postgres"), autocommit=True) as connection:
        yield connection


@pytest.fixture
def stranger(superuser: Connection) -> Iterator[str]:
    """Yield the name of a fresh role, unrelated to all others."""
    name = f"stranger_{secrets.token_hex(4)}"
    superuser.execute(f"CREATE ROLE {name}")
    yield name
    superuser.execute(f"DROP OWNED BY {name} CASCADE")
    superuser.execute(f"DROP ROLE {name}")


@pytest.fixture(scope="module")
def trainer_connection(postgres: Postgres) -> Iterator[Connection]:
    """Yield a connection to a migrated schema as the role that trains."""
    with host_applications.fresh_schema(postgres) as schema, psycopg.connect(schema.migrate()) as connection:
        yield connection
        connection.rollback()


CHANGES = [
    "ALTER TABLE training_jobs ADD COLUMN mine integer",
    "ALTER TABLE training_jobs OWNER TO training_app",
    "ALTER TABLE training_epochs DISABLE TRIGGER ALL",
    "CREATE INDEX ON training_jobs (error)",
    "CREATE TABLE mine (number integer)",
    "CREATE FUNCTION mine() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
    "CREATE SCHEMA mine",
    "DROP TABLE training_epochs",
    "TRUNCATE training_jobs",
    "UPDATE training_schema_version SET version_num = '0001'",
    "DELETE FROM training_schema_created",
    "DELETE FROM model_versions",
    "DELETE FROM dataset_numbers",
    "UPDATE checkpoint_audits SET detail = ''",
    "SET ROLE training",
]


@pytest.mark.parametrize("statement", CHANGES)
def test_the_role_that_trains_cannot_change_the_schema_or_history(
    trainer_connection: Connection, statement: str
) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        trainer_connection.execute(statement)
    trainer_connection.rollback()


def test_the_role_that_trains_gets_only_the_privileges_that_the_statements_need() -> None:
    needed: defaultdict[str, set[str]] = defaultdict(set)
    for file in QUERIES.glob("*.sql"):
        text = re.sub(r"--.*", "", load_query(file.stem).decode())
        for verb, pattern in (
            ("SELECT", r"(?:FROM|JOIN) (\w+)"),
            ("INSERT", r"INSERT INTO (\w+)"),
            ("UPDATE", r"(?<!DO )(?<!FOR )(?<!KEY )UPDATE (\w+)"),
            ("DELETE", r"DELETE FROM (\w+)"),
            # An upsert reads and changes an existing row.
            ("UPDATE", r"INSERT INTO (\w+)(?=(?:(?!INSERT INTO)[^;])*DO UPDATE)"),
            ("SELECT", r"INSERT INTO (\w+)(?=(?:(?!INSERT INTO)[^;])*DO UPDATE)"),
        ):
            for table in re.findall(pattern, text):
                needed[table].add(verb)
    needed["training_schema_version"].add("SELECT")  # require_current
    assert {table: set(privileges) for table, privileges in PRIVILEGES.items()} == {
        table: verbs for table, verbs in needed.items() if table in PRIVILEGES
    }


def test_every_table_of_every_revision_has_a_grant() -> None:
    promised = collect_promised_columns(MIGRATIONS, list_revisions(MIGRATIONS)[-1])
    assert set(PRIVILEGES) == {*promised, *KEPT_TABLES}


def test_a_migration_grants_missing_privileges_once(empty: Database, engine: Engine) -> None:
    rehearsed = rehearse(engine, application_role=TRAINING_APPLICATION)
    assert f'GRANT DELETE ON TABLE training_epochs TO "{TRAINING_APPLICATION}";' in rehearsed.report
    assert rehearsed.problems == rehearsed.warnings == ()
    empty.migrate()
    again = rehearse(engine, application_role=TRAINING_APPLICATION)
    assert again.report.endswith("Nothing to do.")


def test_a_new_role_gets_its_privileges_at_the_newest_revision(
    empty: Database, engine: Engine, host_connection: Connection
) -> None:
    apply(engine)
    schema = host_connection.execute("SELECT current_schema()").fetchone()
    assert schema is not None
    host_connection.execute(f"GRANT USAGE ON SCHEMA {schema[0]} TO {TRAINING_APPLICATION}")
    host_connection.commit()
    with psycopg.connect(empty.url) as application:
        with pytest.raises(
            SchemaBehind, match=r"training_app.* lacks privileges on the training tables: run the"
        ):
            require_current(application)
        with pytest.raises(SchemaUnverified, match=r"lacks .*SELECT on TABLE training_jobs.*migrate_schema"):
            verify(engine, application_role=TRAINING_APPLICATION)
        assert "Revisions" not in rehearse(engine, application_role=TRAINING_APPLICATION).report
        empty.migrate()
        require_current(application)
    assert verify(engine, application_role=TRAINING_APPLICATION)


@pytest.mark.parametrize("kind", HOST_APPLICATIONS)
def test_on_the_table_of_a_host_application_the_role_only_reads_and_writes_rows(
    empty: Database, kind: str
) -> None:
    with psycopg.connect(empty.owner_url) as owner:
        host_applications.install(owner, HOST_APPLICATIONS[kind])
        owner.execute("CREATE TABLE invoices (number integer)")
    with psycopg.connect(empty.migrate(), autocommit=True) as application:
        application.execute(HOST_APPLICATIONS[kind].insert, {"name": "ours"})
        application.execute("UPDATE training_jobs SET status = 'running' WHERE name = 'ours'")
        assert application.execute("DELETE FROM training_jobs WHERE name = 'ours'").rowcount == 1
        for statement in ("TABLE invoices", "ALTER TABLE training_jobs DROP name", "DROP VIEW queued_jobs"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                application.execute(statement)


def test_a_table_of_another_owner_is_reported_in_one_sentence(
    empty: Database, engine: Engine, superuser: Connection, stranger: str
) -> None:
    with psycopg.connect(empty.owner_url) as owner:
        host_applications.install(owner, HOST_APPLICATIONS["integer"])
        schema = owner.execute("SELECT current_schema()").fetchone()
    assert schema is not None
    superuser.execute(f"ALTER TABLE {schema[0]}.training_jobs OWNER TO {stranger}")
    problem = (
        f"Table training_jobs belongs to role {stranger}, and role {TRAINING_OWNER}, which migrates, is not "
        f'a member of role {stranger}: run GRANT "{stranger}" TO "{TRAINING_OWNER}", or give connection '
        "training_db_owner a role that is a member."
    )
    assert rehearse(engine, application_role=TRAINING_APPLICATION).problems == (problem,)
    with pytest.raises(MigrationRefused, match="belongs to role stranger"):
        apply(engine)
    superuser.execute(f'GRANT "{stranger}" TO "{TRAINING_OWNER}"')
    superuser.execute(f"GRANT USAGE ON SCHEMA {schema[0]} TO {stranger}")
    with psycopg.connect(empty.migrate()) as application:
        require_current(application)


def test_a_grant_that_the_owner_may_not_make_is_reported_with_its_statement(
    empty: Database, engine: Engine, superuser: Connection
) -> None:
    with psycopg.connect(empty.owner_url) as owner:
        schema = owner.execute("SELECT current_schema()").fetchone()
    assert schema is not None
    superuser.execute(f"ALTER SCHEMA {schema[0]} OWNER TO postgres")
    superuser.execute(f"GRANT ALL ON SCHEMA {schema[0]} TO {TRAINING_OWNER}")
    statement = f'GRANT USAGE ON SCHEMA {schema[0]} TO "{TRAINING_APPLICATION}"'
    (problem,) = rehearse(engine, application_role=TRAINING_APPLICATION).problems
    assert problem.endswith(f"may not grant: let its owner run {statement}.")
    superuser.execute(statement)
    empty.migrate()


def test_row_level_security_that_hides_all_rows_is_reported_with_its_remedy(
    empty: Database, engine: Engine
) -> None:
    with psycopg.connect(empty.owner_url) as owner:
        host_applications.install(owner, HOST_APPLICATIONS["integer"])
        owner.execute("ALTER TABLE training_jobs ENABLE ROW LEVEL SECURITY")
    (problem,) = rehearse(engine, application_role=TRAINING_APPLICATION).problems
    assert problem.startswith(
        "Table training_jobs has row-level security, but no policy for role training_app"
    )
    with pytest.raises(MigrationRefused, match="row-level security"):
        apply(engine, application_role=TRAINING_APPLICATION)
    remedy = problem.partition(" run ")[2].removesuffix(".")
    with psycopg.connect(empty.owner_url) as owner:
        owner.execute(remedy)

    apply(engine, application_role=TRAINING_APPLICATION)

    with psycopg.connect(empty.url) as trainer:
        assert trainer.execute("SELECT count(*) FROM training_jobs").fetchone() == (host_applications.ROWS,)
    with psycopg.connect(empty.owner_url) as owner:
        owner.execute("DROP POLICY training_app ON training_jobs")
    with pytest.raises(SchemaUnverified, match="row-level security"):
        verify(engine, application_role=TRAINING_APPLICATION)


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("GRANT CREATE ON SCHEMA {schema} TO {role}", "it may create objects in schema {schema}"),
        (f"GRANT {TRAINING_OWNER} TO {{role}}", f"it has the rights of {TRAINING_OWNER}, who owns "),
        ("ALTER ROLE {role} SUPERUSER", "it is a superuser"),
    ],
)
def test_a_role_that_could_change_the_schema_causes_a_warning(
    engine: Engine,
    host_connection: Connection,
    superuser: Connection,
    stranger: str,
    statement: str,
    reason: str,
) -> None:
    row = host_connection.execute("SELECT current_schema()").fetchone()
    assert row is not None
    host_connection.commit()
    superuser.execute(statement.format(schema=row[0], role=stranger))
    (warning,) = rehearse(engine, application_role=stranger).warnings
    assert f"{stranger}, which connection training_db uses, can change the schema: " in warning
    assert reason.format(schema=row[0]) in warning
