"""The thin layer between Airflow and the rest: parameters, operators, callbacks."""
