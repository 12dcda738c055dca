"""Writes a params.json, reads it, and returns what is said of it."""

import json

import pytest

from src.errors import UserError
from src.params.reading import load_params

# As the best known public implementations of this layout state them.
PUBLIC = {
    "learning_rate": 1e-3,
    "batch_size": 64,
    "num_epochs": 20,
    "num_channels": 32,
    "use_batch_norm": False,
    "bn_momentum": 0.9,
    "margin": 0.5,
    "embedding_size": 64,
    "triplet_strategy": "batch_all",
    "squared": False,
    "image_size": 28,
    "num_labels": 10,
    "train_size": 50000,
    "eval_size": 10000,
    "num_parallel_calls": 4,
    "save_summary_steps": 50,
}


def load(path, content):
    if isinstance(content, dict):
        content = json.dumps(content)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return load_params(path)


def message(path, content):
    """Return what is said of a wrong file, less the file's name, which every line begins with."""
    with pytest.raises(UserError) as caught:
        load(path, content)
    lines = str(caught.value).splitlines()
    assert all(line.startswith(f"{path}: ") for line in lines)
    return "\n".join(line.removeprefix(f"{path}: ") for line in lines)
