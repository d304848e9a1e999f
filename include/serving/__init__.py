"""What guards Airflow's API server and our applications in it before a route is asked.

application  the FastAPI class of both applications: login first, limits, headers on every answer
bodies       how large a request may be, and how long it may take to arrive
headers      the headers that tell a browser what an answer must not be used for
logins       how often a password may be guessed
protocol     how long a connection may be silent, and how long the head of a request may be
"""
