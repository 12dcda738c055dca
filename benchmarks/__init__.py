"""What this project claims of its speed, each figure a ratio taken in one run."""
