"""The only way to talk to S3: addresses, errors in sentences, uploads and downloads that are verified.

It knows nothing of what the objects are. s3transfer is not used for uploads, because it knows neither
If-Match nor If-None-Match, and a write without a condition protects nobody's checkpoint.
"""
