"""Converts datasets in other formats to Ultralytics' format.

`.ndjson` (the export of Ultralytics Platform) and COCO JSON are read in a confined process. The result
(images, their labels and, except for classify, a data YAML) is stored in S3 under the fingerprint of its
content. Jobs train on this copy, because the signed URLs of an export expire. The labels are those that
Ultralytics' converters would write. The converters themselves are not safe to call on untrusted files: they
fetch any URL, copy local files, and write to any path that a file name gives.
"""
