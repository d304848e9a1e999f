# Sourced by backup.sh and restore.sh: sets the locations of the database and the bucket, and keeps secrets out of
# command lines.
# shellcheck shell=bash

: "${TRAINING_DB_URL:?}" "${CHECKPOINT_BUCKET:?}" "${AWS_ACCESS_KEY_ID:?}" "${AWS_SECRET_ACCESS_KEY:?}"

# The password is passed in the environment, because every user of the machine could see an argument in the process
# list.
database=$TRAINING_DB_URL
if [[ $TRAINING_DB_URL =~ ^([a-z]+://[^:@/]*):([^@/]*)(@.*)$ ]]; then
    database=${BASH_REMATCH[1]}${BASH_REMATCH[3]}
    encoded=${BASH_REMATCH[2]}
    PGPASSWORD=$(printf '%b' "${encoded//%/\\x}")
    export PGPASSWORD
fi

# Defines rclone's remote `bucket:`, the deployment's S3 server.
export RCLONE_CONFIG_BUCKET_TYPE=s3
export RCLONE_CONFIG_BUCKET_PROVIDER=AWS
export RCLONE_CONFIG_BUCKET_ACCESS_KEY_ID=$AWS_ACCESS_KEY_ID
export RCLONE_CONFIG_BUCKET_SECRET_ACCESS_KEY=$AWS_SECRET_ACCESS_KEY
export RCLONE_CONFIG_BUCKET_SESSION_TOKEN=${AWS_SESSION_TOKEN:-}   # only temporary keys have one
export RCLONE_CONFIG_BUCKET_REGION=${AWS_REGION:-us-east-1}
export RCLONE_CONFIG_BUCKET_NO_CHECK_BUCKET=true
if [[ -n ${S3_ENDPOINT_URL:-} ]]; then
    export RCLONE_CONFIG_BUCKET_PROVIDER=Other
    export RCLONE_CONFIG_BUCKET_ENDPOINT=$S3_ENDPOINT_URL
fi

# Every ten minutes and at the end, rclone reports what it has copied.
report=(--stats 10m --stats-one-line --stats-log-level NOTICE)
