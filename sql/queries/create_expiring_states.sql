-- A table of this session: the jobs whose training states expire, with their rows as they were when the policy chose
-- them.
DROP TABLE IF EXISTS pg_temp.expiring_states;
CREATE TEMPORARY TABLE expiring_states (
    job_id text PRIMARY KEY,
    dag_id text,
    run_id text NOT NULL,
    status text NOT NULL
);
