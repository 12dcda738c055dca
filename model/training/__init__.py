"""A run: it is built, trained, evaluated, embedded with, and its checkpoints are looked after."""
