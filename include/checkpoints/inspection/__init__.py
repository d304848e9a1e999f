"""Inspecting a checkpoint without loading it, without PyTorch, and without running anything in it.

    archive        checks that the layout of the file is exactly that of torch.save
    unpickler      interprets its pickle with symbols instead of objects
    calls, classes the functions and classes that a pickle may name: those that the pinned versions write
    contents       checks that the symbols form a model and plain values
    architecture   checks the description from which a model is built

A file that passes may be loaded with torch.load(weights_only=True), as include.training.loading does: no code
in it runs, and loading takes at most a few times the file's size in memory.
"""
