"""One attempt at a training: where it starts, what it reports, and how it ends."""
