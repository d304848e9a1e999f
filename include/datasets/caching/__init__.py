"""Fetches datasets to this machine: each file once, below a limit, and never half there."""
