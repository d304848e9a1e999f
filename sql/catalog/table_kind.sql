-- r is an ordinary table; no row where there is nothing of this name on the search path.
SELECT relkind::text
FROM pg_class
WHERE oid = to_regclass(%(table)s);
