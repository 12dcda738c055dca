"""Distances of anchors to candidates, and from their slopes the loss and its gradient."""
