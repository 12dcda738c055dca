"""The strategy that CONTRIBUTING.md adds is that of its definition there."""

import numpy as np
import pytest
import reference
from documents import ROOT, blocks

from model.estimator import tf

CODE = [
    block
    for block in blocks((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), "CONTRIBUTING.md")
    if block.language == "python"
]


def function_of(block, names):
    namespace = dict(names)
    exec(compile(block.text, block.place, "exec"), namespace)
    return namespace["batch_far"]


@pytest.mark.parametrize("anchors", [None, [0, 3, 4]], ids=str)
@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@pytest.mark.parametrize("labels", [[0, 0, 1, 1, 2, 0], [0, 0, 0, 0, 0, 0], [0, 1, 2, 3, 4, 5]])
def test_the_strategy_of_the_guide_is_its_definition(labels, distance, anchors):
    strategy, definition = (
        function_of(block, names) for block, names in zip(CODE, ({}, vars(reference)), strict=True)
    )
    labels = np.array(labels)
    embeddings = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    expected = definition(labels, embeddings, margin=1.5, distance=distance, anchors=anchors)
    variable = tf.Variable(embeddings)
    with tf.GradientTape() as tape:
        found = strategy(labels, variable, margin=1.5, distance=distance, anchors=anchors)
        loss = found.loss
    assert float(loss) == pytest.approx(expected.loss, rel=1e-5)
    counts = (found.num_averaged_triplets, found.num_positive_triplets, found.num_valid_triplets)
    assert tuple(map(int, counts)) == expected[1:4]
    np.testing.assert_allclose(tape.gradient(loss, variable), expected.gradient, atol=1e-6)
