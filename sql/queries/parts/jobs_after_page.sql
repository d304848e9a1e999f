-- The creation time at which the previous page ended has the type of the column, which may be a platform's own.
(
    %(first_page)s::boolean
    OR (COALESCE(created_at, '-infinity'), job_id) < (%(before_created_at)s, %(before_job_id)s)
)
