-- Columns whose value alone identifies a row, the primary key first.
SELECT a.attname::text AS name
FROM pg_index AS i
JOIN pg_attribute AS a
    ON a.attrelid = i.indrelid
    AND a.attnum = i.indkey[0]
WHERE i.indrelid = to_regclass(%(table)s)
    AND i.indisunique
    AND i.indisvalid
    AND i.indnkeyatts = 1
    AND i.indpred IS NULL
    AND i.indexprs IS NULL
GROUP BY a.attname
ORDER BY
    bool_or(i.indisprimary) DESC,
    a.attname <> 'id',
    a.attname;
