"""Samples of a dataset with their labels drawn, so that users can see what a training run would learn.

draw      pictures of a few images with their labels; runs in a confined process
store     the pictures in S3
"""
