"""What a checkpoint is, where it lives, and how it is loaded without running foreign code."""
