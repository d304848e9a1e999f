-- Whether the table that is found by this name is in the schema in which new tables are created.
SELECT EXISTS (
    SELECT
    FROM pg_class
    WHERE oid = to_regclass(%(table)s)
        AND relnamespace = current_schema()::regnamespace
);
