"""The datasets, one module each; they are registered in src.registry.DATASETS."""
