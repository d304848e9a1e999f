"""Samples of a dataset with their labels drawn, so that people see what a training run would learn.

colours   the colours of classes
maps      masks and depth maps
shapes    the content of a label file as shapes in an image
draw      pictures of a few images with their labels; runs in a confined process
store     the pictures in S3
"""
