"""Settings and connections of a deployment, and retries while its servers are unavailable."""
