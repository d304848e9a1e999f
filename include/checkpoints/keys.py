"""Keys that this project adds to Ultralytics' checkpoint, for all who write or read it."""

from __future__ import annotations

EXACT = "exact"
"""Of last.pt: what Ultralytics' own keys lack of a training's state."""

BATCH = "batch"
"""In EXACT: how many batches of the epoch after the last finished one went into the state."""

LOSS_WATCH = "loss_watch"
"""In EXACT: what the rules for the loss have seen and done."""

BEGINNINGS = "beginnings"
"""In EXACT: the states that a roll-back may go to, oldest first; absent where no rule rolls back."""

BEST_EPOCH = "best_epoch"
"""Of a stripped best.pt: the epoch it was saved in, which stripping sets to -1."""
