-- Privileges that a role needs and does not have yet, in the words of GRANT: to connect, to find the tables, to
-- read and write them, and to fill a key from a sequence. `sequences` is materialized, so that
-- has_sequence_privilege is called only for sequences: it fails for any other relation.
WITH needed AS (
    SELECT
        c.oid,
        c.relnamespace,
        wanted.privilege
    FROM unnest(%(tables)s::text[], %(privileges)s::text[]) AS wanted (table_name, privilege)
    JOIN pg_class AS c
        ON c.oid = to_regclass(wanted.table_name)
),

sequences AS MATERIALIZED (
    SELECT DISTINCT d.refobjid AS oid
    FROM pg_attrdef AS a
    JOIN pg_depend AS d
        ON d.classid = 'pg_attrdef'::regclass
        AND d.objid = a.oid
        AND d.refclassid = 'pg_class'::regclass
    JOIN pg_class AS c
        ON c.oid = d.refobjid
        AND c.relkind = 'S'
    WHERE a.adrelid IN (SELECT needed.oid FROM needed WHERE needed.privilege = 'INSERT')
)

SELECT
    'DATABASE ' || quote_ident(current_database()) AS object,
    'CONNECT' AS privilege
WHERE NOT has_database_privilege(%(role)s, current_database(), 'CONNECT')
UNION ALL
SELECT DISTINCT
    'SCHEMA ' || n.oid::regnamespace::text,
    'USAGE'
FROM needed
JOIN pg_namespace AS n
    ON n.oid = needed.relnamespace
WHERE NOT has_schema_privilege(%(role)s, n.oid, 'USAGE')
UNION ALL
SELECT
    'TABLE ' || needed.oid::regclass::text,
    needed.privilege
FROM needed
WHERE NOT has_table_privilege(%(role)s, needed.oid, needed.privilege)
UNION ALL
SELECT
    'SEQUENCE ' || sequences.oid::regclass::text,
    'USAGE'
FROM sequences
WHERE NOT has_sequence_privilege(%(role)s, sequences.oid, 'USAGE')
ORDER BY object, privilege;
