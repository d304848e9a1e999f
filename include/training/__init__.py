"""The trainer: torch and Ultralytics, without Airflow and without S3. `python -m include.training --help`.

Importing the package changes nothing, for Airflow's processes read its contract too. What trains, evaluates
or loads a checkpoint calls `isolate_ultralytics` first.
"""
