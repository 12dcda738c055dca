"""The formats of exported models, one file each; see `EXPORT_FORMATS` in src/registry.py.

Each is a function `(saved_model, target, calibration) -> embed`:

- saved_model: the folder of a SavedModel, `images` uint8 [N, H, W, C], or `vectors` float32
  [N, F], -> `embeddings` float32 [N, D], with the signature `serving_default`.
- target: the file to write, or the folder of a SavedModel. Nothing else is written.
- calibration: inputs [M, ...] whose activations fix the ranges of an int8 model; None for a model
  that is not quantized.
- embed: runs `target` by the runtime of the format: inputs -> float32 [N, D].
"""
