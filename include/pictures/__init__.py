"""Plots that Ultralytics draws during a training: choosing which to keep, and storing them."""
