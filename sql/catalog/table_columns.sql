-- For a domain, base_type and length are those of its underlying type.
SELECT
    a.attname::text AS name,
    format_type(a.atttypid, a.atttypmod) AS type,
    format_type(COALESCE(NULLIF(t.typbasetype, 0), t.oid), NULL) AS base_type,
    NULLIF(CASE WHEN t.typtype = 'd' THEN t.typtypmod ELSE a.atttypmod END, -1) - 4 AS length,
    t.typtype::text AS kind,
    NOT a.attnotnull AS is_nullable,
    a.atthasdef OR a.attidentity <> '' OR t.typdefault IS NOT NULL AS has_default,
    a.attgenerated <> '' AS is_generated
FROM pg_attribute AS a
JOIN pg_type AS t
    ON t.oid = a.atttypid
WHERE a.attrelid = to_regclass(%(table)s)
    AND a.attnum > 0
    AND NOT a.attisdropped
ORDER BY a.attnum;
