"""The business code behind the Dags; Dags, plugins and Airflow's settings import it."""
