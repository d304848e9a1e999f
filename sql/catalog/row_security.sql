-- Tables on which row-level security limits the role, and whether any of their policies is for the role. Without a
-- policy, the role sees no row and cannot write any.
SELECT
    named.name,
    EXISTS (
        SELECT
        FROM pg_policy AS p
        CROSS JOIN unnest(p.polroles) AS allowed (oid)
        WHERE p.polrelid = c.oid
            AND CASE WHEN allowed.oid = 0 THEN TRUE ELSE pg_has_role(r.oid, allowed.oid, 'USAGE') END
    ) AS has_policy
FROM unnest(%(tables)s::text[]) AS named (name)
JOIN pg_class AS c
    ON c.oid = to_regclass(named.name)
JOIN pg_roles AS r
    ON r.rolname = %(role)s
WHERE c.relrowsecurity
    AND NOT (r.rolsuper OR r.rolbypassrls)
    AND (c.relforcerowsecurity OR NOT pg_has_role(r.oid, c.relowner, 'USAGE'))
ORDER BY named.name;
