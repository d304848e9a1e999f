"""The repository itself: its documents, its imports, its checks, its benchmarks."""
