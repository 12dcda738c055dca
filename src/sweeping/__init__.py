"""Many experiments planned, and trained side by side."""
