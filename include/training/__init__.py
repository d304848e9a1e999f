"""The trainer: torch and Ultralytics, without Airflow and without S3. `python -m include.training --help`.

Importing the package has no side effects, because Airflow's processes import its contract too. Code that
trains, evaluates or loads a checkpoint must call `isolate_ultralytics` first.
"""
