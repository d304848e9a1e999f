"""Converts datasets in other formats to the format of Ultralytics.

`.ndjson` (the export of Ultralytics Platform) and COCO JSON are read in a confined process. The result
(images, their labels and, except for classify, a data YAML) is stored in S3 under the fingerprint of its
content. Jobs train on this copy, because the signed URLs of an export expire. The labels are those that
Ultralytics' own converters would write. Those converters are not safe to call on foreign files: they fetch
any URL, copy local files, and write wherever a name leads.
"""
