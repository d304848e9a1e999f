"""Converts datasets in other formats to Ultralytics' format.

`.ndjson` (the export of Ultralytics Platform) and COCO JSON are read in a confined process. The result
(images, their labels and, except for classify, a data YAML) is stored in S3 under the fingerprint of its
content. Jobs train on this copy, because the signed URLs of an export expire.

The labels are the same as those that Ultralytics' converters write. This package does not call these
converters, because they trust the file: they fetch any URL, copy local files, and write to any path.
"""
