SELECT DISTINCT name
FROM datasets
ORDER BY name
LIMIT %(limit)s;
