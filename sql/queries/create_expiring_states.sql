-- Visible to this session only: jobs whose training states the policy expires, with their rows as of its application.
DROP TABLE IF EXISTS pg_temp.expiring_states;
CREATE TEMPORARY TABLE expiring_states (
    job_id text PRIMARY KEY,
    dag_id text,
    run_id text NOT NULL,
    status text NOT NULL
);
