#!/bin/bash
# Prepares Airflow's database, the first user, the pool `gpu` and the bucket, before Airflow's services start. The
# script can be run repeatedly; if a step fails, the services do not start.
set -euo pipefail

airflow db migrate

# If the user already exists, the command says so and succeeds. `airflow users create` is called from Python, so that
# its argument --password does not appear in the process list, which every user of the host can read.
python - <<'PYTHON'
import os
import sys

from airflow.__main__ import main

name, email = os.environ["AIRFLOW_ADMIN_USERNAME"], os.environ["AIRFLOW_ADMIN_EMAIL"]
person = ["--username", name, "--email", email, "--firstname", "Training", "--lastname", "Admin"]
password = ["--password", os.environ["AIRFLOW_ADMIN_PASSWORD"]]
sys.argv = ["airflow", "users", "create", "--role", "Admin", *person, *password]
main()
PYTHON

# A task in a pool that does not exist never starts. An existing pool keeps its number of slots, which may have been
# changed in the UI.
airflow pools get gpu || airflow pools set gpu "$GPU_SLOTS" "One slot per GPU: training runs wait here for their turn."

python - <<'PYTHON'
import os

from airflow.providers.amazon.aws.hooks.s3 import S3Hook

hook, bucket = S3Hook("training_s3"), os.environ["CHECKPOINT_BUCKET"]
if not hook.check_for_bucket(bucket):
    hook.create_bucket(bucket)
print(f"The bucket {bucket} for checkpoints exists.")
PYTHON
