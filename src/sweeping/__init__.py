"""Sweeps: plan many experiments and train several at a time."""
