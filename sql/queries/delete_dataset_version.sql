DELETE FROM datasets
WHERE name = %(name)s
    AND version = %(version)s;
