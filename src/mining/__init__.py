"""Batches, triplets chosen before the network runs, and rows sorted for mining in batches."""
