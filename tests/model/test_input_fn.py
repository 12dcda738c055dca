"""The datasets that feed the Estimator: what they hold, and that they can start anywhere."""

import itertools

import numpy as np
import pytest

from model import input_fn
from model.estimator import tf
from model.input_fn import eval_input_fn, names_bad_images, predict_input_fn, train_input_fn
from src.data.sampling import BalancedBatches, ShuffledBatches
from src.data.split import Split
from src.errors import UserError
from src.mining.batches import training_batches
from src.params.schema import Augment, Params

RNG = np.random.default_rng(0)
# Each image's first pixel tells which it is.
IMAGES = RNG.integers(0, 256, (50, 4, 6, 1), dtype=np.uint8)
IMAGES[:, 0, 0, 0] = np.arange(50)
SPLIT = Split(IMAGES, np.repeat(np.arange(5, dtype=np.int32), 10), tuple("abcde"))


def take(dataset, count=None):
    return [(x.numpy(), y.numpy()) for x, y in itertools.islice(dataset, count)]


def which(images):
    return np.round(images[:, 0, 0, 0] * 255).astype(int)


def test_images_and_labels_belong_together_and_pixels_become_0_to_1():
    for images, labels in take(train_input_fn(SPLIT, Params(batch_size=16), 0), 5):
        assert images.dtype == np.float32 and labels.dtype == np.int32
        np.testing.assert_allclose(images, IMAGES[which(images)] / np.float32(255), rtol=1e-6)
        np.testing.assert_array_equal(labels, SPLIT.labels[which(images)])


def test_training_has_no_end():
    assert len(take(train_input_fn(SPLIT, Params(batch_size=16), 0), 40)) == 40


@pytest.mark.parametrize("chunk_bytes", [1, 24 * 32, 1 << 20])
@pytest.mark.parametrize(
    "params",
    [
        Params(batch_size=16),
        Params(batch_size=9),
        Params(classes_per_batch=2, examples_per_class=8),
    ],
    ids=["last one smaller", "all alike", "P x K, a class smaller"],
)
def test_the_batches_are_those_of_the_sampler_however_many_are_gathered_at_a_time(
    params, chunk_bytes, monkeypatch
):
    monkeypatch.setattr(input_fn, "CHUNK_BYTES", chunk_bytes)
    split = SPLIT.take(np.arange(45))  # the last class has 5
    expected = list(itertools.islice(training_batches(split, params).from_step(2), 20))
    assert len({len(indices) for indices in expected}) == (1 if params.batch_size == 9 else 2)
    for indices, (images, labels) in zip(
        expected, take(train_input_fn(split, params, 2), 20), strict=True
    ):
        np.testing.assert_array_equal(which(images), indices)
        np.testing.assert_array_equal(labels, split.labels[indices])


@pytest.mark.parametrize(
    "params",
    [
        Params(batch_size=16),
        Params(classes_per_batch=3, examples_per_class=4),
        Params(batch_size=16, augment=Augment(shift=1, flip=True, rotation=20, erasing=0.5)),
    ],
    ids=["shuffled", "P x K", "augmented"],
)
def test_a_run_that_goes_on_at_a_step_sees_what_it_would_have_seen(params):
    whole = take(train_input_fn(SPLIT, params, 0), 9)
    resumed = take(train_input_fn(SPLIT, params, 5), 4)
    for (images, labels), (images_resumed, labels_resumed) in zip(whole[5:], resumed, strict=True):
        np.testing.assert_array_equal(images, images_resumed)
        np.testing.assert_array_equal(labels, labels_resumed)


def test_augmentation_is_for_training_only_and_differs_by_step_and_seed():
    params = Params(batch_size=50, augment=Augment(shift=1, rotation=20))
    first, second = take(train_input_fn(SPLIT, params, 0), 2)
    plain = take(train_input_fn(SPLIT, Params(batch_size=50), 0), 1)[0]
    np.testing.assert_array_equal(first[1], plain[1])
    assert not np.allclose(first[0], plain[0])
    other_seed = take(train_input_fn(SPLIT, params.model_copy(update={"seed": 1}), 0), 1)[0]
    assert not np.allclose(first[0], other_seed[0])
    assert first[0].shape == second[0].shape == (50, 4, 6, 1)
    for images, _ in take(eval_input_fn(SPLIT, params)) + take(predict_input_fn(SPLIT)):
        np.testing.assert_allclose(images, IMAGES[which(images)] / np.float32(255), rtol=1e-6)


def test_evaluation_is_the_split_once_in_one_mixed_order():
    batches = take(eval_input_fn(SPLIT, Params(batch_size=16)))
    assert [len(labels) for _, labels in batches] == [16, 16, 16, 2]
    seen = np.concatenate([which(images) for images, _ in batches])
    assert sorted(seen) == list(range(50))
    # The split is sorted by label; a batch of one label would have no triplet.
    assert all(len(np.unique(labels)) > 1 for _, labels in batches)
    again = np.concatenate([which(x) for x, _ in take(eval_input_fn(SPLIT, Params(batch_size=16)))])
    np.testing.assert_array_equal(seen, again)


def test_prediction_is_the_split_in_its_order():
    seen = np.concatenate([which(images) for images, _ in take(predict_input_fn(SPLIT))])
    np.testing.assert_array_equal(seen, np.arange(50))


def test_the_sampler_is_the_one_that_the_params_ask_for():
    assert isinstance(training_batches(SPLIT, Params()), ShuffledBatches)
    p_x_k = training_batches(SPLIT, Params(classes_per_batch=2, examples_per_class=3))
    assert isinstance(p_x_k, BalancedBatches)
    for _, labels in take(
        train_input_fn(SPLIT, Params(classes_per_batch=2, examples_per_class=3), 0), 8
    ):
        assert sorted(np.unique(labels, return_counts=True)[1]) == [3, 3]


class Unreadable:
    """Images of which those after the first few raise an error."""

    dtype, ndim, shape = np.dtype(np.uint8), 4, (9, 2, 2, 1)

    def __init__(self, error):
        self.error = error

    def __len__(self):
        return 9

    def __getitem__(self, rows):
        raise self.error


@pytest.mark.parametrize("message", ["x/a.png: gone; accepted: [what] {was} there", "ü: \\x1b"])
def test_what_is_wrong_with_an_image_is_said_as_such(message):
    split = Split(Unreadable(UserError(message)), np.zeros(9, np.int32), ("a",))
    with pytest.raises(UserError) as caught, names_bad_images():
        take(predict_input_fn(split, 4))
    assert str(caught.value) == message and caught.value.__suppress_context__


def test_a_bug_in_reading_images_stays_one():
    split = Split(Unreadable(ValueError("a bug")), np.zeros(9, np.int32), ("a",))
    with pytest.raises(tf.errors.OpError, match="a bug"), names_bad_images():
        take(predict_input_fn(split, 4))


def test_the_images_are_not_in_the_graph():
    with tf.Graph().as_default() as graph:
        large = Split(np.zeros((5000, 28, 28, 1), np.uint8), np.zeros(5000, np.int32), ("a",))
        tf.compat.v1.data.make_one_shot_iterator(eval_input_fn(large, Params())).get_next()
        assert graph.as_graph_def().ByteSize() < 100_000
