-- New tables are created in this schema, before which nothing of the same name is found.
SELECT EXISTS (
    SELECT
    FROM pg_class
    WHERE oid = to_regclass(%(table)s)
        AND relnamespace = current_schema()::regnamespace
);
