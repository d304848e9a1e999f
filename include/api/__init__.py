"""The REST API at /training/api/v1, in Airflow's API server: what Airflow's own API cannot tell.

app          the application: every part of it put together
guarded_app  the FastAPI class of API and console: login first, limits, headers on every answer
access       who may call a route; no route is without one of these
problems     errors as problem documents (RFC 9457), one sentence each
database     the training database, for the time of a request
pages        long lists, page by page
models       versions of models
checkpoints  links to best.pt and last.pt in S3
completion   jobs that were trained outside Airflow
stopping     a job that is asked to stop
events, hub  a job as it happens; one look at the database for all who watch
pictures     what Ultralytics has drawn
origin       requests that change something come from our own pages
"""
