"""All access to S3: addresses, errors with readable messages, and verified uploads and downloads.

Only `layout` and `listing` depend on what the keys mean. s3transfer's uploads are not used: they support
neither If-Match nor If-None-Match, and an unconditional write could overwrite another attempt's checkpoint.
"""
