"""Checks every image and label of a dataset by the rules of Ultralytics, and counts the objects."""
