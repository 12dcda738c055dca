"""Comparison of experiments, as one table and one figure."""
