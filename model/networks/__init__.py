"""The networks, one file each with `build(params, image_shape)`; registered in src/registry.py.

Layers compute in Keras' global policy, which `model/network.py` sets. What comes before the first
weight and from the embedding layer on is float32 in any policy, because half precision would leave
embeddings two to three digits.
"""
