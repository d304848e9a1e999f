"""The pictures that Ultralytics draws of a training: which of them are kept, and where."""
