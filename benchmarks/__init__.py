"""Measure what exact training costs, compared with plain Ultralytics; each module prints one table.

`make bench` prints all tables, `python -m benchmarks.overhead` a single one; `--quick` checks in a few
minutes that they run. The figures in docs/benchmarks.md come from here.
"""
