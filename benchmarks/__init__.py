"""The cost of exact training compared with plain Ultralytics: one table for each module, measured in turns.

`make bench` prints all tables, `python -m benchmarks.overhead` a single one; `--quick` checks in a few
minutes that they run. The figures in docs/benchmarks.md come from here.
"""
