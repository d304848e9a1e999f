# Sourced by backup.sh and restore.sh: where the database and the bucket are, without a secret in a command line.
# shellcheck shell=bash

: "${TRAINING_DB_URL:?}" "${CHECKPOINT_BUCKET:?}" "${AWS_ACCESS_KEY_ID:?}" "${AWS_SECRET_ACCESS_KEY:?}"

# The password goes through the environment, because everyone who lists the machine's processes would see an argument.
database=$TRAINING_DB_URL
if [[ $TRAINING_DB_URL =~ ^([a-z]+://[^:@/]*):([^@/]*)(@.*)$ ]]; then
    database=${BASH_REMATCH[1]}${BASH_REMATCH[3]}
    encoded=${BASH_REMATCH[2]}
    PGPASSWORD=$(printf '%b' "${encoded//%/\\x}")
    export PGPASSWORD
fi

# The remote `bucket:` of rclone is the deployment's S3 server.
export RCLONE_CONFIG_BUCKET_TYPE=s3
export RCLONE_CONFIG_BUCKET_PROVIDER=AWS
export RCLONE_CONFIG_BUCKET_ACCESS_KEY_ID=$AWS_ACCESS_KEY_ID
export RCLONE_CONFIG_BUCKET_SECRET_ACCESS_KEY=$AWS_SECRET_ACCESS_KEY
export RCLONE_CONFIG_BUCKET_REGION=${AWS_REGION:-us-east-1}
export RCLONE_CONFIG_BUCKET_NO_CHECK_BUCKET=true
if [[ -n ${S3_ENDPOINT_URL:-} ]]; then
    export RCLONE_CONFIG_BUCKET_PROVIDER=Other
    export RCLONE_CONFIG_BUCKET_ENDPOINT=$S3_ENDPOINT_URL
fi

# Every ten minutes and at the end, rclone reports what it has copied.
report=(--stats 10m --stats-one-line --stats-log-level NOTICE)
