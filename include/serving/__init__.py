"""What guards Airflow's API server and our applications in it before a route is asked.

bodies    how large a request may be, and how long it may take to arrive
headers   the headers that tell a browser what an answer must not be used for
logins    how often a password may be guessed
problem   a refusal as a problem document (RFC 9457)
protocol  how long a connection may be silent, and how long the head of a request may be
server    the middleware of the whole API server
"""
