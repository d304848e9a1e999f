"""The business code behind the Dags. Nothing here is loaded by Airflow unless a Dag or a plugin imports it."""
