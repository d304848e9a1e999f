job_id IS NOT NULL
-- A filter that is NULL matches every job. PostgreSQL gives the parameter status the type of the column, which may be a
-- host application's enum. The indexes on dataset and model cover 250 characters (revision 0005), and are used only for
-- exactly this expression.
AND (%(any_status)s::boolean OR status = %(status)s)
AND (%(dataset)s::text IS NULL OR left(spec ->> 'dataset', 250) = %(dataset)s)
AND (%(model)s::text IS NULL OR left(spec ->> 'model', 250) = %(model)s)
AND (%(pattern)s::text IS NULL OR job_id LIKE %(pattern)s)
AND (%(dag_id)s::text IS NULL OR dag_id = %(dag_id)s)
AND (%(run_id)s::text IS NULL OR run_id = %(run_id)s)
AND (%(archived)s::boolean IS NULL OR (archived_at IS NOT NULL) = %(archived)s::boolean)
