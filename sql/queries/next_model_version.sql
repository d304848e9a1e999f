SELECT COALESCE(max(version), 0) + 1
FROM model_versions
WHERE name = %(name)s;
