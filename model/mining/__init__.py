"""Distances within a batch, and from their slopes the loss and its gradient."""
