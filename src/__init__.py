"""All code that needs no TensorFlow; docs/architecture.md lists its folders."""
