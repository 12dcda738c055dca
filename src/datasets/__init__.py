"""The datasets, a file each; src.registry.DATASETS names them."""
