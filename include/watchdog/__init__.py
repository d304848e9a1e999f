"""Ends an attempt that hangs, from a process of its own: `watched` starts it."""
