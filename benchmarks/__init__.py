"""What the exact training costs beside plain Ultralytics: one table a module, measured side by side.

`make bench` prints all of them, `python -m benchmarks.overhead` one; `--quick` shows in a few minutes that
they run. The figures of docs/benchmarks.md come from here.
"""
