"""The watchdog: a separate process that kills an attempt that hangs. `watch_attempt` starts it."""
