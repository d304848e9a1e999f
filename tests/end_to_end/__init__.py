"""Whole runs in a real Airflow, from the trigger to the row."""
