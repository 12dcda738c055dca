"""The memory of embeddings against a loop that keeps a list."""

import numpy as np
import pytest
import reference

from model.estimator import estimator, tf
from model.hooks.memory import MemoryOfData
from model.mining.memory import MEMORY, Memory
from model.model_fn import model_fn
from src.data.split import Split
from src.params.schema import Params
from src.registry import OFFLINE_STRATEGIES, TRIPLET_STRATEGIES, look_up

RNG = np.random.default_rng(0)
SIZE = 19  # no multiple of a batch
ONLINE = sorted(TRIPLET_STRATEGIES.keys() - OFFLINE_STRATEGIES)
# The last one of an epoch is smaller.
BATCHES = [
    (RNG.integers(0, 3, size), RNG.normal(size=(size, 4)).astype(np.float32))
    for size in (8, 8, 5, 8, 8, 5)
]


class Kept:
    """The definition: a list of the last embeddings; the n-th of all is in place n mod SIZE."""

    def __init__(self):
        self._examples = []
        self._num_seen = 0

    def with_batch(self, labels, embeddings):
        """The candidates: the batch, then the list."""
        if not self._examples:
            return labels, embeddings
        kept_labels, kept = map(np.array, zip(*self._examples, strict=True))
        return np.concatenate([labels, kept_labels]), np.concatenate([embeddings, kept])

    def add(self, labels, embeddings):
        for example in zip(labels, embeddings, strict=True):
            place = self._num_seen % SIZE
            self._examples[place : place + 1] = [example]
            self._num_seen += 1

    @property
    def examples(self):
        return sorted((int(label), tuple(x.tolist())) for label, x in self._examples)


@pytest.mark.parametrize(
    ("name", "distance"),
    [(name, distance) for name in ONLINE for distance in reference.distances_of(name)],
)
def test_against_a_list(name, distance):
    kept = Kept()
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        labels = tf.compat.v1.placeholder(tf.int32, [None])
        embeddings = tf.compat.v1.placeholder(tf.float32, [None, 4])
        memory = Memory(SIZE, 4)
        all_labels, candidates = memory.candidates(labels, embeddings, tf.constant(True))
        triplets = look_up(TRIPLET_STRATEGIES, name)(
            all_labels,
            candidates,
            margin=1.0,
            distance=distance,
            anchors=tf.range(tf.size(labels)),
        )
        fetches = [triplets.loss, triplets[1:], *tf.gradients(triplets.loss, embeddings)]
        with tf.control_dependencies([triplets.loss]):
            write = memory.write(labels, embeddings)
        session.run(tf.compat.v1.global_variables_initializer())
        for step, (of_batch, x) in enumerate(BATCHES):
            loss, counts, gradient, _ = session.run(
                [*fetches, write], {labels: of_batch, embeddings: x}
            )
            expected = getattr(reference, name)(
                *kept.with_batch(of_batch, x),
                margin=1.0,
                distance=distance,
                anchors=range(len(x)),
            )
            assert loss == pytest.approx(expected.loss, rel=1e-5), step
            assert tuple(counts) == expected[1:4], step
            np.testing.assert_allclose(gradient, expected.gradient[: len(x)], atol=1e-6)
            kept.add(of_batch, x)
            assert expected.num_valid_triplets > 0
        variables = {v.op.name: v for v in tf.compat.v1.global_variables()}
        found = session.run(
            {name: variables[f"memory/{name}"] for name in ("labels", "embeddings")}
        )
    ring = zip(found["labels"].tolist(), map(tuple, found["embeddings"].tolist()), strict=True)
    assert sorted(ring) == kept.examples
    # The n-th example of the training is at position n mod M.
    everything = np.concatenate([of_batch for of_batch, _ in BATCHES])
    for n in range(len(everything) - SIZE, len(everything)):
        assert found["labels"][n % SIZE] == everything[n]


IMAGES = RNG.random((40, 8, 8, 1)).astype(np.float32)
LABELS = (np.arange(40) % 3).astype(np.int32)
PARAMS = Params(
    **{"num_channels": 4, "embedding_size": 4, "margin": 1.0, "learning_rate": 1e-2},
    **{"batch_size": 8, "memory_size": SIZE, "memory_start_steps": 2},
    **{"triplet_strategy": "batch_hard", "warmup_strategy": "batch_all", "warmup_steps": 4},
)


def graph_of(mode, params=PARAMS):
    images = tf.compat.v1.placeholder(tf.float32, [None, 8, 8, 1])
    labels = None
    if mode != estimator.ModeKeys.PREDICT:
        labels = tf.compat.v1.placeholder(tf.int32, [None])
    tf.compat.v1.set_random_seed(0)
    tf.compat.v1.train.get_or_create_global_step()
    return images, labels, model_fn(images, labels, mode, params)


def test_training_uses_it_from_a_step_on_and_saves_it(tmp_path):
    """Saved and restored after each step, in a new session; warm-up and memory begin apart."""
    kept, saved = Kept(), None
    with tf.Graph().as_default() as graph:
        images, labels, spec = graph_of(estimator.ModeKeys.TRAIN)
        predicted = graph.get_tensor_by_name("naive_cnn/embedding/BiasAdd:0")
        saver = tf.compat.v1.train.Saver()
        initializer = tf.compat.v1.global_variables_initializer()
        assert {v.op.name for v in tf.compat.v1.global_variables()} >= {
            *("memory/embeddings", "memory/labels", "memory/num_seen", "memory/data")
        }
        trainable = {v.op.name for v in tf.compat.v1.trainable_variables()}
        assert not any(name.startswith(MEMORY) for name in trainable)
        for step in range(6):
            batch = slice(5 * step, 5 * step + 8)
            feed = {images: IMAGES[batch], labels: LABELS[batch]}
            with tf.compat.v1.Session() as session:
                session.run(initializer)
                if saved:
                    saver.restore(session, saved)
                embeddings = session.run(predicted, feed)
                loss, _ = session.run([spec.loss, spec.train_op], feed)
                saved = saver.save(session, str(tmp_path / "model.ckpt"), step)
            candidates = LABELS[batch], embeddings
            if step >= 2:
                candidates = kept.with_batch(*candidates)
            strategy = reference.batch_all if step < 4 else reference.batch_hard
            expected = strategy(*candidates, margin=1.0, distance="euclidean", anchors=range(8))
            assert loss == pytest.approx(expected.loss, rel=1e-5), step
            kept.add(LABELS[batch], embeddings)
    for mode in (estimator.ModeKeys.EVAL, estimator.ModeKeys.PREDICT):
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            graph_of(mode)
            assert not [v for v in tf.compat.v1.global_variables() if MEMORY in v.op.name]
            tf.compat.v1.train.Saver().restore(session, saved)


def test_it_is_emptied_if_the_data_have_changed(caplog):
    def split(*class_names):
        return Split(IMAGES, LABELS, class_names)

    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        images, labels, spec = graph_of(estimator.ModeKeys.TRAIN)
        session.run(tf.compat.v1.global_variables_initializer())
        (num_seen,) = (v for v in tf.compat.v1.global_variables() if "num_seen" in v.op.name)

        def begin(*class_names):
            hook = MemoryOfData(split(*class_names))
            hook.begin()
            hook.after_create_session(session, None)
            return int(session.run(num_seen))

        def messages():
            return [r.message for r in caplog.records if r.name == MemoryOfData.__module__]

        assert begin("a", "b", "c") == 0 and not messages()  # a new training
        session.run(spec.train_op, {images: IMAGES[:8], labels: LABELS[:8]})
        assert begin("a", "b", "c") == 8 and not messages()
        assert begin("b", "a", "c") == 0
        assert messages() == [
            "warning: the data have changed: the memory of embeddings starts empty"
        ]
    with tf.Graph().as_default():  # without a memory
        hook = MemoryOfData(split("a", "b", "c"))
        hook.begin()
        hook.after_create_session(None, None)
