"""The networks, a file each: `build(params, image_shape)`; registered in src/registry.py."""
