"""Turns a dataset's files into splits: listing, decoding, caching, class names and sampling."""
