"""What a checkpoint is, and where it lives: nothing here runs code that is in one."""
