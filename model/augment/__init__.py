"""Random changes of training images: a file each for their kinds, in the order of `batch.py`."""
