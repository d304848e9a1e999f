"""What the tasks of each Dag do: one module for each Dag, with its name."""
