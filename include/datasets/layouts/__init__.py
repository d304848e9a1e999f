"""Finds the images of a dataset and their labels, in the layouts that Ultralytics reads."""
