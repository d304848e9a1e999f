"""Datasets in other formats, converted into the one that Ultralytics trains on.

`.ndjson` (the export of Ultralytics Platform) and COCO JSON are read in a confined process. The result
(images, labels and a data YAML) is stored in S3 under the fingerprint of its content, and is what jobs train
on, because the signed URLs of an export expire. The labels are those that Ultralytics' own converters would
write. These are not safe to call on foreign files: they fetch any URL, copy local files, and write wherever a
name leads.
"""
