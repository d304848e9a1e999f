"""The work behind the tasks: one module named after each Dag, and the modules that they share."""
