-- Of this session alone: jobs whose whole states the policy does not keep, as their rows were when it was applied.
DROP TABLE IF EXISTS pg_temp.expiring_states;
CREATE TEMPORARY TABLE expiring_states (
    job_id text PRIMARY KEY,
    dag_id text,
    run_id text NOT NULL,
    status text NOT NULL
);
