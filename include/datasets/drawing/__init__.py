"""Samples of a dataset with their labels drawn, so that people see what a training run would learn.

colours   the colours of classes
maps      masks and depth maps
shapes    what a label file says, as shapes in an image
draw      a few images of a dataset with their labels; runs in a confined process
store     these pictures in S3
"""
