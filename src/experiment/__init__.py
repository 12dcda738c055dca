"""An experiment: its directory, its files, the data that it was trained on, its curves."""
