#!/usr/bin/env bash
# Restore a backup of config/backup.sh into an empty database and an empty bucket.
#
#   config/restore.sh REMOTE [TIME]
#
# TIME is that of a dump in REMOTE/database, by default the newest. Needs psql, pg_restore and rclone, and the variables
# of config/backup.sh for the new place; the bucket's name must be the old one, because the rows name it.
set -euo pipefail
source "$(dirname "$0")/backup-settings.sh"

remote=${1:?give the remote, such as offsite:training-backups}
time=${2:-$(rclone lsf "$remote/database" | sort | tail -n 1 | sed 's/\.dump$//')}
work=$(mktemp --directory)
trap 'rm -rf "$work"' EXIT
rclone copyto "$remote/database/$time.dump" "$work/$time.dump"

tables=$(psql --no-psqlrc --tuples-only --no-align --command \
    "SELECT count(*) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')" "$database")
# Counts objects, not folders: SeaweedFS still lists a folder whose objects have just been deleted.
objects=$(rclone lsf --recursive --files-only "bucket:$CHECKPOINT_BUCKET" | wc --lines)
if ((tables > 0 || objects > 0)); then
    echo "The database has $tables tables, and the bucket $CHECKPOINT_BUCKET $objects objects: both must be empty." >&2
    exit 1
fi

# The bucket first, so that no row names an object that is not there yet.
echo "1. Bucket $CHECKPOINT_BUCKET"
rclone copy "$remote/objects" "bucket:$CHECKPOINT_BUCKET" --metadata "${report[@]}"
# objects/ is as the newest backup left it. What each backup after TIME replaced or removed is put back, newest first, so
# that the copy of an object that is put in place last is the one of TIME.
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
