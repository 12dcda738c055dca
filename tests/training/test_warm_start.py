"""A training that starts from another one's weights."""

import json
import re
import shutil

import numpy as np
import pytest
from tiny import TINY, train_only

from model.estimator import tf
from model.training.warm_start import read_warm_start
from src.errors import UserError
from src.experiment.checkpoint_files import digest_of, index_of
from src.experiment.experiment import Experiment
from src.experiment.warm_start import WarmStart, find_source, save_warm_start, source_warnings
from src.params.schema import Params

SHAPE = (8, 8, 1)
LAYERS = ("block_1_conv", "block_2_conv")


@pytest.fixture
def source(finished, tmp_path):
    return Experiment(shutil.copytree(finished, tmp_path / "source"))


def read(source, params_path, **keys):
    params = Params(**{**TINY, "init_from": str(source.model_dir), **keys})
    return read_warm_start(source, params, SHAPE, params_path)


def reader(checkpoint):
    return tf.train.load_checkpoint(str(checkpoint))


def test_layers_of_the_same_name_and_shape_start_with_its_weights(
    source, make_experiment, data_dir, capsys
):
    """And the others at random, the averages with the same; resuming does not need the source."""
    keys = {"init_from": str(source.model_dir), "embedding_size": 6, "ema_decay": 0.9, "seed": 5}
    model_dir = make_experiment(num_epochs=1, **keys)
    train_only(model_dir, data_dir)
    step = source.best().step
    line = f"  weights of {source.model_dir}, step {step}, for 2 of 3 layers; random: embedding\n"
    assert line in capsys.readouterr().out

    experiment = Experiment(model_dir)
    given, begun = reader(source.best_checkpoint), reader(experiment.untrained_checkpoint)
    for layer in LAYERS:
        for name in (f"{layer}/kernel", f"{layer}/bias"):
            expected = given.get_tensor(name)
            np.testing.assert_array_equal(begun.get_tensor(name), expected)
            np.testing.assert_array_equal(begun.get_tensor(f"moving_average/{name}"), expected)
    assert np.abs(begun.get_tensor("embedding/kernel")).max() > 0
    record = json.loads(experiment.warm_start_path.read_text())
    (flatters,) = record.pop("flatters")  # another seed: another validation split
    assert re.search(r"was trained on \d+ of \d+ validation examples: their metrics", flatters)
    assert record == {
        "init_from": str(source.model_dir),
        "step": step,
        "sha256": digest_of(source.best_checkpoint),
        "num_layers": 2,
        "others": ["embedding"],
    }
    assert experiment.trained_params().init_from == str(source.model_dir)
    assert source_warnings(experiment) == [flatters]

    shutil.rmtree(source.model_dir)
    make_experiment(num_epochs=2, **keys)
    assert train_only(model_dir, data_dir) == 14
    printed = capsys.readouterr()
    assert "weights of" not in printed.out and "resuming at step 7" in printed.out
    assert (
        f"the weights were those of {source.model_dir} at step {step}, where"
        in printed.out + printed.err
    )
    assert experiment.latest_step() == 14


def test_a_changed_source_is_named(source, tmp_path):
    own = Experiment(tmp_path / "own")
    own.model_dir.mkdir()
    assert source_warnings(own) == []
    given = (str(source.model_dir), 14, "0" * 64, 3, ())
    save_warm_start(own.warm_start_path, WarmStart(*given))
    (line,) = source_warnings(own)
    assert line.endswith(f"is now another one, of step {source.best().step}")
    own.warm_start_path.write_text("{}")
    (line,) = source_warnings(own)
    assert "damaged" in line


def test_all_weights_of_a_layer_or_none(source, tmp_path):
    """The embedding has a kernel of another shape; its bias, of the same shape, is not read."""
    values, record = read(source, tmp_path, num_blocks=3)
    assert set(record.others) == {"block_3_conv", "embedding"}
    names = {f"{layer}/{weight}" for layer in LAYERS for weight in ("kernel", "bias")}
    assert values.keys() == names
    assert read(source, tmp_path)[1].others == ()
    assert read(source, tmp_path, embedding_whitening=0.5)[1].others == ("embedding",)


def test_what_gives_no_weights_is_refused(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # messages shorten long names
    own = Experiment(tmp_path / "own")
    own.model_dir.mkdir()
    start = f"{own.params_path}: init_from: found "
    accepted = "accepted: the directory of another experiment that is trained"
    for found, reason in (
        ("none", "no directory"),
        ("own/../own", "this experiment itself"),
        (".", "which has no checkpoint"),
    ):
        with pytest.raises(UserError) as caught:
            find_source(found, own)
        assert str(caught.value) == f'{start}"{found}", {reason}; {accepted}'
    assert find_source(str(source.model_dir), own) == source

    with pytest.raises(UserError, match="which has no layer of the same name and shape"):
        read(source, own.params_path, num_channels=5)
    with pytest.raises(UserError, match="beside 'embedding', which embedding_whitening sets"):
        read(source, own.params_path, num_channels=5, embedding_whitening=0.5)
    index_of(source.best_checkpoint).unlink()
    with pytest.raises(UserError) as caught:
        read(source, own.params_path)
    line = str(caught.value)
    assert line.startswith(f"{own.params_path}: init_from: {source.best_checkpoint}: damaged: ")
    assert "\n" not in line


def test_other_weights_beside_it_are_refused():
    with pytest.raises(ValueError, match='weights: found "imagenet"; accepted: null, because'):
        Params(network="keras_application", weights="imagenet", init_from="x")
