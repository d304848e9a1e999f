-- Nobody refuses the version while it is promoted.
SELECT version
FROM model_versions
WHERE name = %(name)s
    AND version = %(version)s
FOR UPDATE;
