"""What the tests use: servers, trainings, browsers and other helpers."""
