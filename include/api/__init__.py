"""The REST API at /training/api/v1, in Airflow's API server: what Airflow's own API cannot tell.

app          the application: every part of it put together
access       who may call a route; no route is without one of these
problems     errors as problem documents (RFC 9457), one sentence each
database     the training database, for the time of a request
pages        long lists, page by page
models       versions of models
"""
