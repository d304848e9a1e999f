DELETE FROM training_epochs
WHERE job_id = %(job_id)s
    AND epoch >= %(first_epoch)s;
