-- Until the end of the transaction, no other session deletes these objects of datasets, or registers a version with
-- them. The locks are taken in sorted order, so that two sessions cannot wait for one another.
SELECT pg_advisory_xact_lock(hashtextextended('objects of dataset ' || sorted.name, 0))
FROM (
    SELECT named.name
    FROM unnest(%(names)s::text[]) AS named (name)
    ORDER BY named.name
) AS sorted;
