"""Many experiments in one table and one picture."""
