SELECT name
FROM model_versions
WHERE stage = 'production'
    AND name = ANY(%(values)s::text[]);
