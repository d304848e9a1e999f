"""Training data: found, fetched, unpacked safely and checked before a GPU is taken.

    include.datasets.check.check_dataset        what the data are, or all that is wrong with them
    include.datasets.fetch.materialized         the same data on the machine that trains
    include.datasets.s3.S3ObjectReader          reads S3 for both, with a boto3 client
    include.datasets.listings.S3Listings        what was checked below a prefix
    include.datasets.errors                     what can be wrong with data

Both run without torch and Ultralytics. Checking images needs Pillow; drawing the bundled digits, which only
`materialized` does, needs scikit-learn.
"""
