"""Versions of models: their rows (ModelVersion), files and signatures, and their promotion."""
