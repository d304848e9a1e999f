"""Versions of models: ModelVersion, where versions are recorded, and which one is in production."""
