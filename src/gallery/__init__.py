"""Uses an embedding: known classes, queries, and the unknown."""
