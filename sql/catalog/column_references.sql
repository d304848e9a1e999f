-- Foreign keys of this column alone, each with the table and the column that it references.
SELECT
    c.conname::text AS name,
    c.confrelid::regclass::text AS listing_table,
    quote_ident(listed.attname) AS listing_column
FROM pg_constraint AS c
JOIN pg_attribute AS a
    ON a.attrelid = c.conrelid
    AND a.attnum = c.conkey[1]
JOIN pg_attribute AS listed
    ON listed.attrelid = c.confrelid
    AND listed.attnum = c.confkey[1]
WHERE c.conrelid = to_regclass(%(table)s)
    AND c.contype = 'f'
    AND cardinality(c.conkey) = 1
    AND a.attname = %(column)s
ORDER BY c.conname;
