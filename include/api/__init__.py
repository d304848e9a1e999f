"""The REST API at /training/api/v1 in Airflow's API server: everything that Airflow's own API lacks.

app           the application, assembled from all routers
guarded_app   the FastAPI class of the API and the console: requires a login, limits requests, adds headers
access        guards that decide who may call a route; every route has one of them
origin        guards for routes that change something: they also refuse requests from pages of other origins
problems      errors as problem documents (RFC 9457), each with a one-sentence message
addresses     absolute URLs
database      connections to the training database, from a pool
deployment    the deployment's settings and its bucket
airflow_runs  Dag runs, through Airflow's own REST API
pages         cursors for long lists
bodies        the base classes of requests and responses
job_response  jobs as the API returns them
hub           polls the database for `events`; one poll serves all clients

Each of the other modules defines the routes for one kind of resource, and the models of their responses.
"""

from __future__ import annotations

PREFIX = "/training/api/v1"
"""Path at which Airflow's API server mounts the API."""
