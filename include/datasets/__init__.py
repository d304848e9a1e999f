"""Finds and fetches training data, unpacks it safely, and checks it before a GPU is claimed.

    include.datasets.check                the task `check_dataset`: describes the data, or lists its problems
    include.datasets.sources              what the parameter `dataset` may refer to
    include.datasets.layouts              which images a dataset has, and where their labels are
    include.datasets.checking             whether images and labels are valid, and how many objects they have
    include.datasets.conversion           .ndjson and COCO, converted to the format of Ultralytics
    include.datasets.caching              the copy on this machine, and the view that a training run is given
    include.datasets.drawing              images of samples with their labels
    include.datasets.uploads              uploads from a browser straight to S3
    include.datasets.errors               the errors that these modules raise

Code that runs before training needs neither torch nor Ultralytics. Checking images needs Pillow, OpenCV and
NumPy; drawing the bundled digits, which only `caching.fetch.materialize` does, needs scikit-learn.
"""
