"""The work behind the tasks: one module for each Dag, with its name."""
