"""Computes what TensorBoard's projector shows, and writes its files."""
