SELECT EXISTS (
    SELECT
    FROM pg_trigger
    WHERE tgrelid = to_regclass(%(table)s)
        AND tgname = %(trigger)s
        AND tgenabled IN ('O', 'A')
);
