SELECT DISTINCT name
FROM model_versions
ORDER BY name;
