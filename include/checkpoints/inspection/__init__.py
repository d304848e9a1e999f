"""Looks into a checkpoint without loading it, without PyTorch, and without running anything in it.

    archive        the file is laid out exactly as torch.save does
    unpickler      its pickle is followed with symbols for what it makes
    calls, classes what it may call and hold: names that the pinned versions write, and no others
    contents       the symbols are those of a model, and of plain values beside it
    architecture   the description that a model is built from

What passes costs no more memory than a few times the file's size, and names nothing that runs when it is
loaded with torch.load(weights_only=True), which is how `loading` loads it.
"""
