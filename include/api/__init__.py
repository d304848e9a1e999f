"""The REST API at /training/api/v1 in Airflow's API server, for everything that Airflow's own API lacks.

app          the application, assembled from all routers
guarded_app  the FastAPI class of the API and the console: requires a login, limits requests and adds headers
access       guards that decide who may call a route; every route has one of them
problems     errors as problem documents (RFC 9457), each with a one-sentence message
database     connections to the training database, one for each request
pages        cursors for long lists
models       versions of models
checkpoints  links to best.pt and last.pt in S3
job_changes  completing, stopping, archiving and deleting jobs
events, hub  live events of a job; one poll of the database serves all clients
pictures     plots that Ultralytics drew
uploads      datasets that browsers send straight to S3
origin       guards for routes that change something: they also refuse requests from pages of other origins
"""

from __future__ import annotations

PREFIX = "/training/api/v1"
"""Path at which Airflow's API server mounts the API."""
