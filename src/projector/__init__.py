"""The files of TensorBoard's projector, and what they show."""
