"""Benchmarks for the speed claims of this project; each figure is a ratio measured in one run."""
