"""Plots that Ultralytics draws during a training run: choosing the plots to keep, and storing them."""
