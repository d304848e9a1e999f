"""Versions of models: what was evaluated (ModelVersion), where it is recorded, which one is in production."""
