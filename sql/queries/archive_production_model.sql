UPDATE model_versions
SET stage = 'archived'
WHERE name = %(name)s
    AND stage = 'production';
