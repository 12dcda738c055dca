"""Keys of params.json that contradict each other, and those that make another experiment."""

import pytest
from params_file import load, message

from src.params.schema import Params


def test_differences_are_none_between_equals():
    assert Params(margin=2.0).differences(Params(margin=2.0)) == []


def test_differences_are_sorted_and_without_durations():
    one = Params()
    other = Params(squared=True, margin=2.0, num_epochs=99, eval_size=7, batch_size=8)
    assert one.differences(other) == other.differences(one) == ["batch_size", "margin", "squared"]


def test_of_a_cosine_schedule_the_number_of_epochs_is_no_duration():
    cosine = {"learning_rate_schedule": "cosine"}
    assert Params(**cosine).differences(Params(**cosine, num_epochs=7)) == ["num_epochs"]
    assert Params(**cosine).differences(Params(**cosine, keep_checkpoint_max=7)) == []
    assert Params(num_epochs=7).differences(Params(num_epochs=8)) == []
    assert "num_epochs" in Params(**cosine).differences(Params(num_epochs=7))


def test_the_size_of_images_is_a_choice_only_where_they_are_brought_to_it():
    assert Params(image_size=28).differences(Params()) == []
    small, large = (Params(dataset="image_folder", image_size=size) for size in (32, 64))
    assert small.differences(large) == ["image_size"]
    assert small.differences(small.model_copy(update={"image_cache": "elsewhere"})) == []


def test_soft_margin(path):
    assert load(path, {"margin": "soft", "triplet_strategy": "batch_hard"}).margin == "soft"
    for wrong in ({}, {"triplet_strategy": "batch_hard", "warmup_strategy": "batch_all"}):
        line = message(path, {"margin": "soft", "warmup_steps": len(wrong) // 2, **wrong})
        assert line.startswith('margin: found "soft"; accepted: a number; "soft" only with the ')


CONTRASTIVE = {"triplet_strategy": "supervised_contrastive", "distance": "cosine"}
WARM_UP = {"warmup_strategy": "batch_hard", "warmup_steps": 5}


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (
            {"triplet_strategy": "multi_similarity"},
            "distance: found null; accepted: 'cosine', because the strategy 'multi_similarity' "
            "compares cosine similarities",
        ),
        (
            {"triplet_strategy": "supervised_contrastive", "distance": "euclidean"},
            "distance: found \"euclidean\"; accepted: 'cosine', because the strategy "
            "'supervised_contrastive' compares cosine similarities",
        ),
        (
            {"warmup_strategy": "multi_similarity", "warmup_steps": 5},
            "distance: found null; accepted: 'cosine', because the strategy 'multi_similarity' "
            "compares cosine similarities",
        ),
        (
            {**CONTRASTIVE, "margin": 0.2},
            "margin: found 0.2; accepted: no value, because the loss of 'supervised_contrastive' "
            "has no margin",
        ),
        (
            {**CONTRASTIVE, "multi_similarity_alpha": 1.0},
            "multi_similarity_alpha: found 1.0; accepted: no value with triplet_strategy "
            "'supervised_contrastive', because only 'multi_similarity' can use it",
        ),
        (
            {"triplet_strategy": "easy_positive", "easy_positive_temperature": 0.5},
            'easy_positive_temperature: found 0.5; accepted: no value, or margin "soft"',
        ),
        (
            {"triplet_strategy": "easy_positive", "easy_positive_negative": "all"},
            "easy_positive_negative: found \"all\"; accepted: 'semihard' or 'hard'",
        ),
    ],
)
def test_keys_of_a_strategy_that_do_not_go_together(path, content, line):
    assert message(path, content) == line


def test_a_warm_up_may_read_what_the_strategy_does_not(path):
    assert load(path, {**CONTRASTIVE, **WARM_UP, "margin": "soft"}).margin_in_use is None
    params = load(path, {**WARM_UP, "margin": "soft", "triplet_strategy": "easy_positive"})
    assert params.margin_in_use == "soft"
    warm = {"warmup_strategy": "distance_weighted", "warmup_steps": 5}
    params = load(path, {**CONTRASTIVE, **warm, "margin": 0.2, "distance_weighted_cutoff": 0.1})
    assert params.arguments_of("distance_weighted") == {"cutoff": 0.1, "farthest": 1.4}
    assert params.arguments_of("supervised_contrastive") == {"temperature": 0.1}
    assert params.arguments_of("batch_hard") == {}


@pytest.mark.parametrize(
    ("content", "distance"),
    [
        ({}, "euclidean"),
        ({"squared": True}, "squared_euclidean"),
        ({"distance": "cosine"}, "cosine"),
        ({"distance": "mean_squared", "squared": False}, "mean_squared"),
        ({"distance": "squared_euclidean", "squared": True}, "squared_euclidean"),
        ({"distance": None, "squared": True}, "squared_euclidean"),
    ],
)
def test_distance_and_squared(path, content, distance):
    assert load(path, content).distance_name == distance


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (
            {"squared": True, "distance": "cosine"},
            "squared: found true; accepted: false, because distance is 'cosine'",
        ),
        (
            {"distance": "manhattan"},
            "distance: found \"manhattan\"; accepted: 'euclidean', 'squared_euclidean', "
            "'mean_squared' or 'cosine', or null",
        ),
        (
            {"classes_per_batch": 10},
            "examples_per_class: found null; accepted: both classes_per_batch and "
            "examples_per_class, or neither",
        ),
        (
            {"examples_per_class": 4},
            "classes_per_batch: found null; accepted: both classes_per_batch and "
            "examples_per_class, or neither",
        ),
        (
            {"warmup_steps": 100},
            "warmup_strategy: found null; accepted: both warmup_strategy and warmup_steps, or "
            "neither",
        ),
        (
            {"warmup_strategy": "batch_all"},
            "warmup_steps: found 0; accepted: both warmup_strategy and warmup_steps, or neither",
        ),
        (
            {"augment": {"shift": -1}},
            "augment.shift: found -1; accepted: a whole number from 0 on",
        ),
        (
            {"dataset": "image_folder"},
            "image_size: found null; accepted: a whole number from 1 on: the size, in pixels, to "
            "which image_folder resizes pictures",
        ),
        (
            {"image_mode": "L"},
            "image_mode: found \"L\"; accepted: no value with dataset 'mnist', because only "
            "'cars196', 'cub200', 'hugging_face', 'image_folder', 'sop' and 'tfds' can use it",
        ),
        (
            {"weights": "imagenet"},
            "weights: found \"imagenet\"; accepted: no value with network 'naive_cnn', because "
            "only 'efficientnet_lite0' and 'keras_application' can use it",
        ),
        (
            {"network": "efficientnet_lite0", "weights": "imagenet"},
            "weights: found \"imagenet\"; accepted: 'efficientnet_lite0/imagenet.h5', which `make "
            "weights-efficientnet-lite0` writes",
        ),
        (
            {"network": "mlp", "embedding_activation": "tanh", "embedding_whitening": 0.5},
            "embedding_activation: found \"tanh\"; accepted: 'linear', because "
            "embedding_whitening makes the layer a linear map",
        ),
        (
            {"augment": {"crop_area": [0.5, 0.2]}},
            "augment.crop_area: found [0.5, 0.2]; accepted: the smallest value, then the largest, "
            "at most 1",
        ),
        (
            {"augment": {"crop_area": [0.5, 1.5]}},
            "augment.crop_area: found [0.5, 1.5]; accepted: the smallest value, then the largest, "
            "at most 1",
        ),
        (
            {"augment": {"crop_area": [0.5]}},
            "augment.crop_area: found [0.5]; accepted: a list of 2, each a number greater than 0, "
            "or null",
        ),
        (
            {"augment": {"crop_area": [0.5, 1.0], "crop_ratio": [2.0, 1.0]}},
            "augment.crop_ratio: found [2.0, 1.0]; accepted: the smallest value, then the largest",
        ),
        (
            {"augment": {"crop_area": [0.5, 1.0], "crop": 0.5}},
            "augment.crop: found 0.5; accepted: 1, because crop_area is given; or crop alone",
        ),
        (
            {"augment": {"crop_ratio": [0.5, 2.0]}},
            "augment.crop_ratio: found [0.5, 2.0]; accepted: no value, or a crop_area",
        ),
        (
            {"augment": {"fill": "white", "flip": True}},
            "augment.fill: found \"white\"; accepted: 'black', or a shift, rotation, elastic or "
            "erasing",
        ),
        (
            {"augment": {"fill": "edge", "erasing": 0.5}},
            "augment.fill: found \"edge\"; accepted: 'black', or a shift, rotation or elastic",
        ),
        (
            {"network": "keras_application", "application": "Resnet50"},
            'application: found "Resnet50"; accepted: the name of a network in keras.applications; '
            "did you mean 'ResNet50'?",
        ),
        (
            {"network": "keras_application", "frozen_layers": -1},
            "frozen_layers: found -1; accepted: a whole number from 0 on, or text",
        ),
        (
            {"network": "keras_application", "frozen_layers": True},
            "frozen_layers: found true; accepted: a whole number from 0 on, or text",
        ),
        (
            {"network": "keras_application", "resize": "crop"},
            "resize: found \"crop\"; accepted: 'scale' or 'pad'",
        ),
        (
            {"augment": {"crop": 0}},
            "augment.crop: found 0; accepted: a number greater than 0 and at most 1",
        ),
        ({"augment": {"flip": 1}}, "augment.flip: found 1; accepted: true or false"),
        ({"augment": {"flp": True}}, "unknown key 'augment.flp'; did you mean 'flip'?"),
        (
            {"augment": {"zzz": 1}},
            "unknown key 'augment.zzz'; accepted: blur, brightness, contrast, crop, crop_area, "
            "crop_ratio, elastic, erasing, fill, flip, grayscale, hue, rotation, saturation, shift",
        ),
    ],
)
def test_keys_that_do_not_go_together(path, content, line):
    assert message(path, content) == line


@pytest.mark.parametrize("mining", ["random", "hard", "semihard"])
def test_offline_mining(path, mining):
    content = {"triplet_strategy": "offline", "offline_mining": mining}
    params = load(path, {**content, "augment": {"shift": 1}})
    assert params.is_offline and params.offline_mining == mining
    if mining != "random":
        assert load(path, {**content, "remine_epochs": 5}).remine_epochs == 5


OFFLINE = {"triplet_strategy": "offline"}


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (
            {"offline_mining": "hard"},
            "offline_mining: found \"hard\"; accepted: 'random', or triplet_strategy 'offline'",
        ),
        (
            {**OFFLINE, "offline_mining": "hrd"},
            "offline_mining: found \"hrd\"; accepted: 'random', 'hard' or 'semihard'; "
            "did you mean 'hard'?",
        ),
        (
            {**OFFLINE, "remine_epochs": 2},
            "remine_epochs: found 2; accepted: 1, or offline_mining 'hard' or 'semihard'",
        ),
        (
            {"remine_epochs": 2},
            "remine_epochs: found 2; accepted: 1, or offline_mining 'hard' or 'semihard'",
        ),
        (
            {**OFFLINE, "warmup_strategy": "batch_all", "warmup_steps": 100},
            'warmup_strategy: found "batch_all"; accepted: null, because triplet_strategy '
            "'offline' trains on triplets, not batches",
        ),
        (
            {"warmup_strategy": "offline", "warmup_steps": 100},
            "warmup_strategy: found \"offline\"; accepted: 'batch_all', 'batch_hard', "
            "'batch_semihard', 'distance_weighted', 'easy_positive', 'multi_similarity' or "
            "'supervised_contrastive'",
        ),
        (
            {**OFFLINE, "classes_per_batch": 10, "examples_per_class": 4},
            "classes_per_batch: found 10; accepted: null, because with triplet_strategy 'offline' "
            "a batch is batch_size triplets",
        ),
        (
            {**OFFLINE, "margin": "soft"},
            'margin: found "soft"; accepted: a number; "soft" only with the strategy '
            "'batch_hard' or 'easy_positive', because softplus makes every triplet positive",
        ),
    ],
)
def test_keys_that_do_not_go_with_offline_triplets(path, content, line):
    assert message(path, content) == line


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (
            {"weight_decay": 0.1},
            "weight_decay: found 0.1; accepted: no value with optimizer 'adam', because only "
            "'adamw' can use it",
        ),
        (
            {"momentum": 0.5, "optimizer": "adamw"},
            "momentum: found 0.5; accepted: no value with optimizer 'adamw', because only 'sgd' "
            "can use it",
        ),
        (
            {"learning_rate_schedule": "steps"},
            "learning_rate_drop_steps: found []; accepted: at least one number of steps, because "
            "learning_rate_schedule is 'steps'",
        ),
        (
            {"learning_rate_schedule": "steps", "learning_rate_drop_steps": [5, 5]},
            "learning_rate_drop_steps: found [5, 5]; accepted: numbers in increasing order",
        ),
        (
            {"learning_rate_drop_steps": [5]},
            "learning_rate_drop_steps: found [5]; accepted: no value with learning_rate_schedule "
            "'constant', because only 'steps' can use it",
        ),
        (
            {"learning_rate_drop_factor": 0.5, "learning_rate_schedule": "cosine"},
            "learning_rate_drop_factor: found 0.5; accepted: no value with "
            "learning_rate_schedule 'cosine', because only 'steps' can use it",
        ),
    ],
)
def test_keys_that_the_optimizer_or_the_schedule_does_not_read(path, content, line):
    assert message(path, content) == line
