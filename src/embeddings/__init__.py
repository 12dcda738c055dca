"""What embeddings are worth: neighbours, metrics, baselines, layouts."""
