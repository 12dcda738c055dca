"""Distances of anchors to candidates, and the loss and gradient from the distances' slopes."""
