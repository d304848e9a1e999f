#!/usr/bin/env bash
# Restore a backup of config/backup.sh into an empty database and an empty bucket.
#
#   config/restore.sh REMOTE [TIME]
#
# TIME is that of a dump in REMOTE/database, by default the newest. Needs what config/backup.sh needs, for the new place;
# the bucket's name must be the old one, because the rows name it.
set -euo pipefail
source "$(dirname "$0")/backup-settings.sh"

remote=${1:?give the remote, such as offsite:training-backups}
time=${2:-$(rclone lsf "$remote/database" | sort | tail -n 1 | sed 's/\.dump$//')}
work=$(mktemp --directory)
trap 'rm -rf "$work"' EXIT
rclone copyto "$remote/database/$time.dump" "$work/$time.dump"

tables=$(psql --no-psqlrc --tuples-only --no-align --command \
    "SELECT count(*) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')" "$database")
objects=$(rclone lsf --max-depth 1 "bucket:$CHECKPOINT_BUCKET" | wc --lines)
if ((tables > 0 || objects > 0)); then
    echo "The database has $tables tables, and the bucket $CHECKPOINT_BUCKET is not empty: both must be empty." >&2
    exit 1
fi

# The bucket first: no row names an object that is not there yet.
echo "1. Bucket $CHECKPOINT_BUCKET"
rclone copy "$remote/objects" "bucket:$CHECKPOINT_BUCKET" --metadata "${report[@]}"

echo "2. Database, of $time"
pg_restore --no-owner --no-acl --exit-on-error --single-transaction --dbname="$database" "$work/$time.dump"
echo "Restored. Trigger migrate_schema, then audit_checkpoints with full=true."
