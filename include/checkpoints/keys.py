"""Keys that this project adds to Ultralytics' checkpoints."""

from __future__ import annotations

EXACT = "exact"
"""In last.pt: the part of the training state that Ultralytics does not save."""

BATCH = "batch"
"""In EXACT: the number of batches trained after the last finished epoch."""

LOSS_WATCH = "loss_watch"
"""In EXACT: the state of the loss rules."""

BEGINNINGS = "beginnings"
"""In EXACT: the states to which a rollback may return, oldest first; absent if there are none."""

BEST_EPOCH = "best_epoch"
"""In EXACT: the best epoch so far. In a stripped best.pt: the epoch in which it was saved, because stripping
sets `epoch` to -1."""
