-- Until the end of the transaction, no other session compares data with the newest version of this dataset.
SELECT pg_advisory_xact_lock(hashtextextended('version of dataset ' || %(name)s, 0));
