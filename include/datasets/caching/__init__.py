"""Fetches datasets to this machine: each file once, within a size limit, and visible only once complete."""
