"""Protection of Airflow's API server, and of our applications in it, before a request reaches a route.

bodies    limits on the size of a request and on the time that its body takes to arrive
headers   headers that restrict what a browser does with a response
logins    limits on failed logins, to prevent password guessing
problem   errors as problem documents (RFC 9457)
protocol  limits on idle connections and on the head (request line and headers) of a request
server    the middleware of the whole API server
"""
