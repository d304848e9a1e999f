"""Uploads of datasets from browsers and programs: straight to S3, through signed links, under `uploads/`.

plan      the files that a client announces, and the parts in which each file is sent
store     the parts that have arrived, links for missing parts, and the completion or removal of an upload
errors    the reasons why an upload is refused
"""
