"""Plots that Ultralytics draws during a training run: choosing which to keep, and storing them."""
