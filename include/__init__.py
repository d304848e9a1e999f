"""The business code behind the Dags. Airflow loads none of it unless a Dag or a plugin imports it."""
