"""Training data: locating, fetching, safe unpacking, and checking before a GPU is claimed.

    include.datasets.check.check_dataset        checks the data and describes them, or lists every problem
    include.datasets.fetch.materialize          makes the same data available on the machine that trains
    include.datasets.s3.S3ObjectReader          reads S3 for both, through a boto3 client
    include.datasets.listings.S3Listings        records which objects were checked under a prefix
    include.datasets.errors                     what can be wrong with a dataset

The first two run without torch and Ultralytics. Checking images needs Pillow, OpenCV and NumPy; drawing the
bundled digits, which only `materialize` does, needs scikit-learn.
"""
