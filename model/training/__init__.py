"""The parts of a run: building, training, evaluating, embedding, and checking checkpoints."""
