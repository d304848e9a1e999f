SELECT
    c.conname::text AS name,
    pg_get_expr(c.conbin, c.conrelid) AS expression
FROM pg_constraint AS c
JOIN pg_attribute AS a
    ON a.attrelid = c.conrelid
    AND a.attnum = ANY(c.conkey)
WHERE c.conrelid = to_regclass(%(table)s)
    AND c.contype = 'c'
    AND a.attname = %(column)s
ORDER BY c.conname;
