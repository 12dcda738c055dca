"""An experiment: its directory, its files, the record of its training data, its curves."""
