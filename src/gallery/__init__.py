"""Galleries of enrolled pictures: stores, queries and verdicts."""
