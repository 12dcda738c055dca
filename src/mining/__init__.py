"""Batches, triplets chosen before the network runs, rows sorted for mining, triplets listed."""
