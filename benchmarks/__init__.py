"""Measure what exact training costs, compared with plain Ultralytics; each module prints one table.

`make bench` prints all tables, `python -m benchmarks.overhead` a single one. With `--quick`, a few minutes
are enough to check that the benchmarks run. The figures in docs/benchmarks.md come from here.
"""
