"""The networks, one file each with `build(params, image_shape)`; registered in src/registry.py."""
