"""Uploads of datasets from browsers and programs: straight to S3, by signed links, under `uploads/`.

plan      which files a client announces, and in which parts each of them is sent
store     what has arrived, links for what is missing, and the completion or removal of an upload
errors    why an upload is refused
"""
