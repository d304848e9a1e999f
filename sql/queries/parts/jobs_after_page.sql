-- PostgreSQL gives before_created_at the type of the column created_at, which a host application may have chosen.
(
    %(first_page)s::boolean
    OR (COALESCE(created_at, '-infinity'), job_id) < (%(before_created_at)s, %(before_job_id)s)
)
