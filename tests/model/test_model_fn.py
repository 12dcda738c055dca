"""The EstimatorSpec of each mode, for every strategy, run in a graph as the Estimator does."""

import numpy as np
import pytest
import reference
from small_application import shorten_lite0, small_application

from model.estimator import estimator, keras, tf
from model.model_fn import model_fn
from model.split_metrics import COUNTS, NAMES, defined
from src.embeddings.retrieval import recall_at_1
from src.experiment.tags import name_of
from src.params.metric_names import WITHIN
from src.params.schema import Params
from src.registry import NETWORKS, OFFLINE_STRATEGIES, TRIPLET_STRATEGIES

RNG = np.random.default_rng(0)
IMAGES = RNG.random((40, 8, 8, 1)).astype(np.float32)
LABELS = (np.arange(40) % 3).astype(np.int32)
PARAMS = {"num_channels": 4, "embedding_size": 5, "margin": 1.0, "reference_margin": 0.02}


def spec_in_graph(mode, params):
    images = tf.compat.v1.placeholder(tf.float32, [None, *IMAGES.shape[1:]])
    labels = tf.compat.v1.placeholder(tf.int32, [None])
    tf.compat.v1.set_random_seed(0)
    tf.compat.v1.train.get_or_create_global_step()
    given = None if mode == estimator.ModeKeys.PREDICT else labels
    return images, labels, model_fn(images, given, mode, params)


def start(session):
    session.run(
        [tf.compat.v1.global_variables_initializer(), tf.compat.v1.local_variables_initializer()]
    )


@pytest.mark.parametrize("name", TRIPLET_STRATEGIES)
def test_train_steps_count_move_the_weights_and_lower_the_loss(name):
    params = Params(**reference.keys_of(name, use_batch_norm=True, learning_rate=1e-2, **PARAMS))
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        images, labels, spec = spec_in_graph(estimator.ModeKeys.TRAIN, params)
        start(session)
        examples = reference.as_batch_of(name, LABELS)
        feed = {images: IMAGES[examples], labels: LABELS[examples]}
        moving = [v for v in tf.compat.v1.global_variables() if "moving_mean" in v.name]
        moving_before = session.run(moving, feed)
        first_loss = session.run(spec.loss, feed)
        for _ in range(30):
            session.run(spec.train_op, feed)
        assert session.run(tf.compat.v1.train.get_global_step()) == 30
        assert session.run(spec.loss, feed) < first_loss
        for before, after in zip(moving_before, session.run(moving, feed), strict=True):
            assert not np.allclose(before, after)


@pytest.mark.parametrize("network", NETWORKS)
def test_the_seed_fixes_the_initial_weights(network, monkeypatch):
    monkeypatch.setattr(keras.applications, "MobileNet", small_application)
    shorten_lite0(monkeypatch)

    def initial_weights(seed):
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            # An application takes no images as small as these.
            of_network = {
                "keras_application": {"input_size": 32, "application": "MobileNet"},
                "efficientnet_lite0": {"input_size": 32},
                "naive_cnn": {"num_channels": 4},
            }
            keys = of_network.get(network, {})
            params = Params(network=network, seed=seed, embedding_size=5, **keys)
            spec_in_graph(estimator.ModeKeys.PREDICT, params)
            start(session)
            kernels = [v for v in tf.compat.v1.trainable_variables() if "kernel" in v.name]
            return session.run(kernels)

    first, again, other = initial_weights(3), initial_weights(3), initial_weights(4)
    assert first
    for kernel, same, different in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(kernel, same)
        assert not np.allclose(kernel, different)


# Each strategy and each distance; any two of them: tests/triplet_strategies.
@pytest.mark.parametrize(
    ("name", "distance"),
    [
        (name, d[(number + i) % len(d)])
        for number, name in enumerate(TRIPLET_STRATEGIES)
        for d in [reference.distances_of(name)]
        for i in range(2 if name in OFFLINE_STRATEGIES else 1)
    ],
)
def test_evaluation_is_exact_over_batches_of_different_sizes(name, distance):
    """Against the reference summed over the batches' triplets: not a mean of batch means."""
    params = Params(**reference.keys_of(name, distance=distance, **PARAMS))
    parts = np.split(np.arange(40), [17, 20, 21])
    batches = [part[reference.as_batch_of(name, LABELS[part])] for part in parts]
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        images, labels, spec = spec_in_graph(estimator.ModeKeys.EVAL, params)
        # The Estimator adds this metric itself.
        loss_value, loss_update = tf.compat.v1.metrics.mean(spec.loss)
        updates = [update for _, update in spec.eval_metric_ops.values()]
        start(session)
        for batch in batches:
            session.run([updates, loss_update], {images: IMAGES[batch], labels: LABELS[batch]})
        metrics = session.run({key: value for key, (value, _) in spec.eval_metric_ops.items()})
        metrics["loss"] = session.run(loss_value)

        predicted = session.graph.get_tensor_by_name("naive_cnn/embedding/BiasAdd:0")
        embeddings = session.run(predicted, {images: IMAGES})

    expected = [
        getattr(reference, name)(LABELS[b], embeddings[b], margin=1.0, distance=distance)
        for b in batches
    ]
    loss_sum = sum(e.loss * e.num_averaged_triplets for e in expected)
    num_averaged = sum(e.num_averaged_triplets for e in expected)
    assert metrics["loss"] == pytest.approx(loss_sum / num_averaged, rel=1e-5)
    assert metrics["num_valid_triplets"] == sum(e.num_valid_triplets for e in expected)
    assert metrics["fraction_positive"] == pytest.approx(
        sum(e.num_positive_triplets for e in expected)
        / sum(e.num_valid_triplets for e in expected),
        rel=1e-6,
    )
    # All else is over each image once, also where it stands in several triplets.
    at_reference = [
        reference.batch_all(LABELS[part], embeddings[part], margin=0.02, distance="euclidean")
        for part in parts
    ]
    assert metrics["fraction_positive_at_reference"] == pytest.approx(
        sum(r.num_positive_triplets for r in at_reference)
        / sum(r.num_valid_triplets for r in at_reference),
        rel=1e-6,
    )
    assert 0.1 < metrics["fraction_positive_at_reference"] < 0.9  # so the margin counts
    # The data is such that a mean of batch means would be another number.
    assert abs(np.mean([e.loss for e in expected]) / (loss_sum / num_averaged) - 1) > 1e-3
    assert metrics["embedding_mean_norm"] == pytest.approx(
        np.linalg.norm(embeddings, axis=1).mean(), rel=1e-5
    )
    assert metrics["recall_at_1_within"] == pytest.approx(recall_at_1(embeddings, LABELS))
    distances = [
        reference.distance(x, y, distance)
        for i, x in enumerate(embeddings.astype(float))
        for y in embeddings.astype(float)[:i]
    ]
    for percentile in (5, 50, 95):
        assert metrics[f"distance_p{percentile}"] == pytest.approx(
            np.percentile(distances, percentile), rel=1e-4
        )
    assert metrics["images_per_second"] > 0


def test_predict_gives_embeddings_without_labels():
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        images, _, spec = spec_in_graph(estimator.ModeKeys.PREDICT, Params(**PARAMS))
        start(session)
        embeddings = session.run(spec.predictions["embeddings"], {images: IMAGES})
    assert embeddings.shape == (40, 5)


def test_training_summaries():
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        images, labels, spec = spec_in_graph(estimator.ModeKeys.TRAIN, Params(**PARAMS))
        start(session)

        def tags(size, of_labels):
            feed = {images: IMAGES[:size], labels: of_labels[:size]}
            summary = tf.compat.v1.Summary.FromString(session.run(spec.scaffold.summary_op, feed))
            assert all(np.isfinite(value.simple_value) for value in summary.value)
            return {name_of(value.tag) for value in summary.value}

        always = {"embedding_mean_norm", "learning_rate"}
        distances = {"distance_p5", "distance_p50", "distance_p95"}
        of_triplets = {"loss", "fraction_positive"}
        assert tags(40, LABELS) == always | distances | of_triplets
        # What a batch without a triplet, or of one image, leaves undefined has no point.
        assert tags(40, np.arange(40)) == tags(40, np.zeros(40)) == always | distances
        assert tags(1, LABELS) == always


WITHOUT_TRIPLETS = [[], [0], [1, 2, 3], [4, 4]]


# Two of the four for each strategy in turn; all for offline, whose batch is stacked triplets.
@pytest.mark.parametrize(
    ("name", "labels"),
    [
        (name, labels)
        for number, name in enumerate(TRIPLET_STRATEGIES)
        for place, labels in enumerate(WITHOUT_TRIPLETS)
        if name in OFFLINE_STRATEGIES or (number + place) % 2 == 0
    ],
)
def test_evaluation_of_what_has_no_triplet(name, labels):
    """Two batches, the second of one image: what is not defined is None, the loss as well."""
    params = Params(**reference.keys_of(name, **PARAMS))
    images_of, labels_of = IMAGES[: len(labels) + 1], np.array([*labels, 9], np.int32)
    parts = [part for part in (np.arange(len(labels)), np.array([len(labels)])) if len(part)]
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        images, given, spec = spec_in_graph(estimator.ModeKeys.EVAL, params)
        loss_value, loss_update = tf.compat.v1.metrics.mean(spec.loss)
        updates = [update for _, update in spec.eval_metric_ops.values()]
        start(session)
        for part in parts:
            batch = part[reference.as_batch_of(name, labels_of[part])]
            feed = {images: images_of[batch], given: labels_of[batch]}
            session.run([updates, loss_update], feed)
        results = session.run({key: value for key, (value, _) in spec.eval_metric_ops.items()})
        results["loss"] = session.run(loss_value)
    assert set(results) == {"loss", *NAMES}
    found = defined(results)
    always = {"embedding_mean_norm", *COUNTS}
    of_pairs = {f"distance_p{percentile}" for percentile in (5, 50, 95)}
    expected = always | (of_pairs if labels else set())
    expected |= {"images_per_second"} if len(parts) > 1 else set()
    if labels == [4, 4]:  # a pair among three: rankings and clusters, but no triplet in a batch
        expected |= set(WITHIN)
    assert {key for key, value in found.items() if value is not None} == expected
    assert found["num_valid_triplets"] == 0
    assert found["num_queries_within"] == (2 if labels == [4, 4] else 0)
    assert all(type(found[name]) is int for name in COUNTS)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_not_defined(bad):
    results = {**dict.fromkeys(NAMES, np.float64(3)), "loss": np.float32(bad)}
    assert defined(results)["loss"] is None
    results = {**dict.fromkeys(NAMES, np.float64(bad)), "loss": np.float32(2)}
    assert set(defined(results).values()) == {None}  # without a count of triplets too


def test_the_warm_up_switches_strategy_within_one_graph():
    """Batch-all for three steps, then batch-hard, by the loss of the batch at each step."""
    params = Params(
        triplet_strategy="batch_hard", warmup_strategy="batch_all", warmup_steps=3, **PARAMS
    )
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        images, labels, spec = spec_in_graph(estimator.ModeKeys.TRAIN, params)
        start(session)
        feed = {images: IMAGES, labels: LABELS}
        predicted = session.graph.get_tensor_by_name("naive_cnn/embedding/BiasAdd:0")
        for step in range(6):
            loss, embeddings = session.run([spec.loss, predicted], feed)
            strategy = reference.batch_all if step < 3 else reference.batch_hard
            expected = strategy(LABELS, embeddings, margin=1.0, distance="euclidean")
            assert loss == pytest.approx(expected.loss, rel=1e-5), step
            session.run(spec.train_op, feed)
            assert session.run(tf.compat.v1.train.get_global_step()) == step + 1


def test_evaluation_does_not_warm_up():
    params = Params(
        triplet_strategy="batch_hard", warmup_strategy="batch_all", warmup_steps=3, **PARAMS
    )
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        images, labels, spec = spec_in_graph(estimator.ModeKeys.EVAL, params)
        start(session)
        feed = {images: IMAGES, labels: LABELS}
        predicted = session.graph.get_tensor_by_name("naive_cnn/embedding/BiasAdd:0")
        loss, embeddings = session.run([spec.loss, predicted], feed)
    expected = reference.batch_hard(LABELS, embeddings, margin=1.0, distance="euclidean")
    assert loss == pytest.approx(expected.loss, rel=1e-5)


def test_negatives_are_drawn_by_seed_and_step():
    """And in an evaluation as at step 0, so that evaluations can be compared."""
    keys = {**PARAMS, "triplet_strategy": "distance_weighted", "distance": "cosine", "seed": 7}
    params, feed = Params(**keys, learning_rate=1e-12), {}
    found = {}
    for mode in (estimator.ModeKeys.TRAIN, estimator.ModeKeys.EVAL):
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            images, labels, spec = spec_in_graph(mode, params)
            start(session)
            feed = {images: IMAGES, labels: LABELS}
            predicted = session.graph.get_tensor_by_name("naive_cnn/embedding/BiasAdd:0")
            step = tf.compat.v1.train.get_global_step()
            for number in range(3):
                session.run(step.assign(number))
                found[mode, number] = session.run([spec.loss, predicted], feed)
    for (mode, number), (loss, embeddings) in found.items():
        seed = (7, number if mode == estimator.ModeKeys.TRAIN else 0)
        expected = reference.distance_weighted(
            LABELS, embeddings, margin=1.0, distance="cosine", seed=seed
        )
        assert loss == pytest.approx(expected.loss, rel=1e-5)
    assert len({loss for loss, _ in found.values()}) == 3
