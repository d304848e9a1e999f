"""What the tests use: servers, training runs, browsers and other helpers."""
