"""Training data: found, fetched, unpacked safely and checked before a GPU is taken."""
