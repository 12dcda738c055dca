"""Everything that builds TensorFlow ops."""
