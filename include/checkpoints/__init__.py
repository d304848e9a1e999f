"""Checkpoints and their storage. Nothing here runs code that a checkpoint contains."""
