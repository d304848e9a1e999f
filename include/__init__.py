"""The business code behind the Dags, loaded where a Dag, a plugin or a setting of Airflow names it."""
