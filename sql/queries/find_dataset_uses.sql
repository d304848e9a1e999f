-- Jobs, and models in production, that were trained on a version: at most three of each.
SELECT
    ARRAY(
        SELECT training_jobs.job_id::text
        FROM training_jobs
        WHERE training_jobs.dataset_name = %(name)s
            AND training_jobs.dataset_version = %(version)s
        ORDER BY training_jobs.job_id
        LIMIT 3
    ) AS jobs,
    ARRAY(
        SELECT model_versions.name || '@' || model_versions.version
        FROM model_versions
        WHERE model_versions.dataset = %(name)s || '@' || %(version)s::text
            AND model_versions.stage = 'production'
        ORDER BY model_versions.name
        LIMIT 3
    ) AS models;
