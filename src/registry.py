"""The registries to extend: datasets, networks, triplet strategies, figures, formats, and others.

Each dict maps a name, in `params.json` or on the command line, to its function,
`"module:function"`. The module is imported on use, so names can be checked and listed without
TensorFlow.
"""

import difflib
import importlib
from collections.abc import Callable, Iterable
from typing import Any

# load(data_dir, params) -> src.data.split.Dataset
DATASETS = {
    "cars196": "src.datasets.cars196:load",
    "cifar10": "src.datasets.cifar10:load",
    "cub200": "src.datasets.cub200:load",
    "fashion_mnist": "src.datasets.fashion_mnist:load",
    "glyphs": "src.datasets.glyphs:load",
    "hugging_face": "src.datasets.hugging_face:load",
    "image_folder": "src.datasets.image_folder:load",
    "mnist": "src.datasets.mnist:load",
    "npz": "src.datasets.npz:load",
    "sop": "src.datasets.sop:load",
    "tfds": "src.datasets.tfds:load",
}

# Datasets of pictures in any size, which are decoded and resized to `image_size`.
PICTURE_DATASETS = {"cars196", "cub200", "hugging_face", "image_folder", "sop", "tfds"}

# build(params, image_shape) -> Keras model: float32 [B, H, W, C] -> float32 [B, D]
NETWORKS = {
    "efficientnet_lite0": "model.networks.efficientnet_lite0:build",
    "keras_application": "model.networks.keras_application:build",
    "mlp": "model.networks.mlp:build",
    "naive_cnn": "model.networks.naive_cnn:build",
}

# strategy(labels, embeddings, *, margin, distance, anchors=None) -> model.mining.loss.TripletLoss;
# see model/triplet_strategies/__init__.py. A key of params `<strategy>_<name>` is its argument
# `name`.
TRIPLET_STRATEGIES = {
    "batch_all": "model.triplet_strategies.batch_all:batch_all",
    "batch_hard": "model.triplet_strategies.batch_hard:batch_hard",
    "batch_semihard": "model.triplet_strategies.batch_semihard:batch_semihard",
    "distance_weighted": "model.triplet_strategies.distance_weighted:distance_weighted",
    "easy_positive": "model.triplet_strategies.easy_positive:easy_positive",
    "multi_similarity": "model.triplet_strategies.multi_similarity:multi_similarity",
    "offline": "model.triplet_strategies.offline:offline",
    "supervised_contrastive": (
        "model.triplet_strategies.supervised_contrastive:supervised_contrastive"
    ),
}

# embedder(experiment, params, image_shape) -> images uint8 [N, H, W, C] -> float32 [N, D]
EMBEDDERS = {"checkpoint": "model.embedder:Embedder"}

# optimizer(params, rate) -> what has `apply_gradients`; see model/optimizers.py
OPTIMIZERS = {
    "adam": "model.optimizers:adam",
    "adamw": "model.optimizers:adamw",
    "sgd": "model.optimizers:sgd",
}

# format(saved_model, target, calibration) -> embed; see model/exporting/__init__.py. Files and
# packages: src/exporting/formats.py
EXPORT_FORMATS = {
    "saved_model": "model.exporting.saved_model:saved_model",
    "litert": "model.exporting.litert:litert",
    "onnx": "model.exporting.onnx:onnx",
}

# Strategies that do not choose triplets themselves. Their batches are triplets, chosen by
# src/mining/triplets.py and stacked as T anchors, T positives and T negatives. The others take any
# batch of examples.
OFFLINE_STRATEGIES = {"offline"}

# Strategies that accept the margin "soft": a softplus of each anchor's one triplet.
SOFT_MARGIN_STRATEGIES = {"batch_hard", "easy_positive"}

# Strategies that compare cosine similarities: the distance must be "cosine", and they have no
# margin.
SIMILARITY_STRATEGIES = {"multi_similarity", "supervised_contrastive"}

# Strategies that draw at random. They take `seed`: the seed of the run, and the step.
RANDOM_STRATEGIES = {"distance_weighted"}

# draw(data) -> src.figures.CaptionedFigure, or None; data: src.figures.FigureData;
# in the order of the page
FIGURES = {
    "tsne": "src.figures.tsne:draw",
    "pca": "src.figures.pca:draw",
    "umap": "src.figures.umap:draw",
    "before_after": "src.figures.before_after:draw",
    "distances": "src.figures.distances:draw",
    "confusion": "src.figures.confusion:draw",
    "mistakes": "src.figures.mistakes:draw",
    "triplets": "src.figures.triplets:draw",
    "open_set": "src.figures.open_set:draw",
    "curves": "src.figures.curves:draw",
    "progress": "src.figures.progress:draw",
}

# Figures that `live_figures` may draw during training: not those with a slow layout, and not what
# only the final evaluation measures.
LIVE_FIGURES = FIGURES.keys() - {"tsne", "umap", "open_set"}

# Of these, figures that are drawn only during training and are on no page.
LIVE_ONLY_FIGURES = {"progress"}

# launcher(settings) -> src.sweeping.launchers.Launcher; settings: src.sweeping.launchers.Settings
LAUNCHERS = {
    "local": "src.sweeping.launchers.local:launcher",
    "slurm": "src.sweeping.launchers.slurm:launcher",
}


def look_up(registry: dict[str, str], name: str) -> Callable[..., Any]:
    """Import and return the function registered as `name`, a key of `registry`."""
    module, function = registry[name].split(":")
    return getattr(importlib.import_module(module), function)  # type: ignore[no-any-return]


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return `; did you mean 'margin'?` if a choice resembles `word`, else nothing."""
    close = difflib.get_close_matches(word, list(choices), n=1)
    return f"; did you mean '{close[0]}'?" if close else ""
