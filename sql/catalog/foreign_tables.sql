-- Tables whose owner's rights the current role lacks: it can neither alter the tables nor grant rights on them.
SELECT
    named.name,
    pg_get_userbyid(c.relowner) AS owner
FROM unnest(%(tables)s::text[]) AS named (name)
JOIN pg_class AS c
    ON c.oid = to_regclass(named.name)
WHERE NOT pg_has_role(c.relowner, 'USAGE')
ORDER BY named.name;
