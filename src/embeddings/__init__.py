"""Evaluates embeddings: nearest neighbours, metrics, baselines, layouts."""
