"""Turns a dataset's files into splits: listing, decoding, caching, sampling; downloads data."""
