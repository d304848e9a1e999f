-- Why a role, which should only read and write rows, can change the schema of these tables.
SELECT reasons.reason
FROM pg_roles AS r
CROSS JOIN LATERAL (
    SELECT 'it is a superuser' AS reason
    WHERE r.rolsuper
    UNION ALL
    SELECT 'it has the rights of ' || pg_get_userbyid(c.relowner) || ', who owns ' || string_agg(c.relname, ', ')
    FROM unnest(%(tables)s::text[]) AS named (name)
    JOIN pg_class AS c
        ON c.oid = to_regclass(named.name)
    WHERE NOT r.rolsuper
        AND pg_has_role(r.oid, c.relowner, 'MEMBER')
    GROUP BY c.relowner
    UNION ALL
    SELECT 'it may create objects in schema ' || current_schema()
    WHERE NOT r.rolsuper
        AND has_schema_privilege(r.oid, current_schema(), 'CREATE')
) AS reasons
WHERE r.rolname = %(role)s
ORDER BY reasons.reason;
