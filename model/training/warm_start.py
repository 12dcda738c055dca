"""Reads the weights of another experiment, for the layers that the new network has too."""

from pathlib import Path

from model.estimator import tf
from model.moving_average import SCOPE
from model.network import build_network, plain
from model.pretrained import NamedValues
from model.training.checkpoints import usable_checkpoint
from model.whitening import EMBEDDING_LAYER
from src.errors import UserError
from src.experiment.checkpoint_files import digest_of, step_of
from src.experiment.experiment import Experiment
from src.experiment.warm_start import WarmStart
from src.params.schema import Params


def read_warm_start(
    source: Experiment, params: Params, image_shape: tuple[int, int, int], params_path: Path
) -> tuple[NamedValues, WarmStart]:
    """Return the weights of every layer that a source has with the same name and shapes.

    If the source has moving averages of its weights, which it embeds with, these are read. A
    layer is read as a whole or not at all. With `embedding_whitening`, the embedding layer is not.

    Args:
        source: a trained experiment; its best checkpoint is read, or the latest without a best.
        params: of the new experiment: `init_from` and the network's keys.
        image_shape: (H, W, C) of the new experiment's images.
        params_path: for the messages.

    Returns:
        The values by the names of the variables, and what is recorded.

    Raises:
        UserError: the checkpoint is damaged, or no layer agrees.
    """
    # Long: what it takes and raises is much.
    try:
        path = usable_checkpoint(source.model_dir, source.evaluated_checkpoint)
    except UserError as error:
        raise UserError(f"{params_path}: init_from: {error}") from None
    reader = tf.train.load_checkpoint(str(path))
    shapes = reader.get_variable_to_shape_map()
    with tf.Graph().as_default():  # not in the Estimator's graph
        network = build_network(params, image_shape)
    wanted: dict[str, dict[str, list[int]]] = {}
    for weight in map(plain, network.weights):
        layer, _, _ = weight.op.name.rpartition("/")
        wanted.setdefault(layer, {})[weight.op.name] = weight.shape.as_list()
    values: NamedValues = {}
    others = []
    for layer, of_layer in wanted.items():
        is_fitted = layer == EMBEDDING_LAYER and params.embedding_whitening is not None
        if not is_fitted and all(shapes.get(name) == shape for name, shape in of_layer.items()):
            for name in of_layer:
                averaged = f"{SCOPE}/{name}"
                values[name] = reader.get_tensor(averaged if averaged in shapes else name)
        else:
            others.append(layer)
    if not values:
        besides = ""
        if params.embedding_whitening is not None:
            besides = f" beside '{EMBEDDING_LAYER}', which embedding_whitening sets"
        raise UserError(
            f"{params_path}: init_from: found {source.model_dir}, which has no layer of the same "
            f"name and shape{besides}; accepted: an experiment whose network has layers of this one"
        )
    read = (step_of(path), digest_of(path), len(wanted) - len(others))
    return values, WarmStart(str(params.init_from), *read, tuple(others))
