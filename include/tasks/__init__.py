"""The work behind the tasks: one module named after each Dag, and what they share."""
