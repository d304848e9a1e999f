"""The trainer needs torch and Ultralytics, but neither Airflow nor S3: `python -m include.training --help`.

This file imports nothing: Airflow's processes, which may lack torch, import some modules of the package.
Code that imports Ultralytics must call `isolate_ultralytics` first.
"""
