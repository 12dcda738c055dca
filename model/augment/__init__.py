"""Random changes of training images; a file for each kind, applied in the order of `batch.py`."""
