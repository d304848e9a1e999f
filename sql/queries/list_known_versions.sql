SELECT path::text
FROM model_versions
WHERE path = ANY(%(values)s::text[]);
