#!/usr/bin/env bash
# Back up the training database and the bucket, even while jobs train; docs/operations.md explains the order.
#
#   config/backup.sh REMOTE
#
# REMOTE is an rclone remote, such as `offsite:training-backups`; define it with `rclone config` or RCLONE_CONFIG_*. The
# backup writes database/TIME.dump, objects/ (the bucket as it is now) and replaced/TIME/ (the files that it replaced or
# removed in objects/). Needs rclone, pg_dump of the server's version or later, and what `make env` prints:
# TRAINING_DB_URL, AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, CHECKPOINT_BUCKET and, unless the bucket is at
# Amazon, S3_ENDPOINT_URL. Temporary keys also need AWS_SESSION_TOKEN.
set -euo pipefail
source "$(dirname "$0")/backup-settings.sh"

remote=${1:?give the remote, such as offsite:training-backups}
time=$(date --utc +%Y-%m-%dT%H-%M-%SZ)
work=$(mktemp --directory)
trap 'rm -rf "$work"' EXIT

echo "1. Database, at $time"
pg_dump --format=custom --no-owner --no-acl --file="$work/$time.dump" "$database"

# A worker writes best.pt before the last.pt that refers to it. They are copied in the opposite order, so that a copied
# last.pt never refers to a best.pt that is newer than the copied best.pt.
echo "2. Bucket $CHECKPOINT_BUCKET: the states of all jobs, then everything else"
sync=(rclone sync "bucket:$CHECKPOINT_BUCKET" "$remote/objects" --metadata --backup-dir="$remote/replaced/$time" "${report[@]}")
"${sync[@]}" --include '/checkpoints/*/last.pt'
"${sync[@]}" --exclude '/checkpoints/*/last.pt'

# The dump is copied last, so that the remote has all objects that a dump refers to.
rclone copyto "$work/$time.dump" "$remote/database/$time.dump"
echo "Complete: $remote/database/$time.dump"
