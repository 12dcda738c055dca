"""All code that builds TensorFlow ops."""
