#!/usr/bin/env bash
# Restore a backup made by config/backup.sh into an empty database and an empty bucket.
#
#   config/restore.sh REMOTE [TIME]
#
# TIME is the name of a dump in REMOTE/database without .dump; the default is the newest dump. Needs psql, pg_restore
# and rclone, and the variables of config/backup.sh with the values of the new deployment. The bucket must have the same
# name as before, because database rows contain the name.
set -euo pipefail
source "$(dirname "$0")/backup-settings.sh"

remote=${1:?give the remote, such as offsite:training-backups}
time=${2:-$(rclone lsf "$remote/database" | sort | tail -n 1 | sed 's/\.dump$//')}
work=$(mktemp --directory)
trap 'rm -rf "$work"' EXIT
rclone copyto "$remote/database/$time.dump" "$work/$time.dump"

tables=$(psql --no-psqlrc --tuples-only --no-align --command \
    "SELECT count(*) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')" "$database")
# Count objects, not folders: SeaweedFS still lists a folder whose objects have just been deleted.
objects=$(rclone lsf --recursive --files-only "bucket:$CHECKPOINT_BUCKET" | wc --lines)
if ((tables > 0 || objects > 0)); then
    echo "The database has $tables tables, and the bucket $CHECKPOINT_BUCKET $objects objects: both must be empty." >&2
    exit 1
fi

# Restore the bucket first, so that no row refers to an object that is still missing.
echo "1. Bucket $CHECKPOINT_BUCKET"
rclone copy "$remote/objects" "bucket:$CHECKPOINT_BUCKET" --metadata "${report[@]}"
# objects/ holds the bucket as of the newest backup. For each backup after TIME, newest first, restore the objects that
# it replaced or removed. Afterwards, every object that existed at TIME has the content that it had at TIME.
rclone lsf --recursive --files-only --include '/replaced/**' "$remote" | cut --delimiter / --fields 2 | sort --unique --reverse |
    while read -r later; do
        if [[ $later > $time ]]; then
            echo "   as before $later"
            rclone copy "$remote/replaced/$later" "bucket:$CHECKPOINT_BUCKET" --metadata --ignore-times "${report[@]}"
        fi
    done

echo "2. Database, of $time"
pg_restore --no-owner --no-acl --exit-on-error --single-transaction --dbname="$database" "$work/$time.dump"
echo "Restored. Trigger migrate_schema, then audit_checkpoints with full=true."
