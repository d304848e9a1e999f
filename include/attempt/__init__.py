"""One attempt at a training run: where it starts, what it reports, and how it ends."""
