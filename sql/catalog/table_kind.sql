-- r is an ordinary table. Returns no row if nothing of this name is on the search path.
SELECT relkind::text
FROM pg_class
WHERE oid = to_regclass(%(table)s);
