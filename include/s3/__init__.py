"""All access to S3: addresses, errors as sentences, and verified uploads and downloads.

It does not know what the objects mean. s3transfer is not used for uploads, because it supports neither
If-Match nor If-None-Match, and an unconditional write could overwrite another attempt's checkpoint.
"""
