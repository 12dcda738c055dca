"""Evaluates a trained experiment on every split, and two baselines."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.hooks.checkpoints import FitsNetwork
from model.hooks.progress import ProgressBar
from model.hooks.report import KeepEmbeddings, UseRoles
from model.hooks.summaries import write_scalars
from model.input_fn import eval_input_fn, names_bad_images
from model.split_metrics import defined
from model.training.build import build_estimator
from model.training.checkpoints import usable_checkpoint
from model.training.disk import names_disk_errors
from model.training.embedding import embed
from src.data.holdout import UNSEEN
from src.data.roles import Roles, roles_of
from src.data.split import Split
from src.embeddings.baselines import raw_pixels, remembered
from src.embeddings.metrics import (
    Embedded,
    Metrics,
    known_queries,
    metrics_against_gallery,
    metrics_among_known,
    metrics_of_gallery,
    metrics_within,
    search_within,
)
from src.embeddings.open_set_evaluation import evaluate_open_set
from src.embeddings.thresholds import CountedPairs, counted_pairs, find_thresholds
from src.experiment.checkpoint_files import index_of
from src.experiment.experiment import Experiment
from src.params.metric_names import AGAINST_GALLERY, AMONG_KNOWN
from src.params.schema import Params


class Evaluation(NamedTuple):
    """The results of a trained experiment for `metrics.json`; see docs/metrics.md.

    Attributes:
        splits: the metrics of each split, by name.
        baselines: for `untrained` and `raw_pixels`, the metrics of the reported splits.
        confusions: for each split that queries the training split, the confusion matrices of `knn`
            and `class_mean`; see `src.embeddings.metrics.confusions`.
        thresholds: distance thresholds for pairs; see `src.embeddings.thresholds`.
        open_set: known images against strangers; see `src.embeddings.open_set_evaluation`.
    """

    splits: dict[str, Metrics]
    baselines: dict[str, dict[str, Metrics]]
    confusions: dict[str, dict[str, NDArray[np.int64]]]
    thresholds: dict[str, Any]
    open_set: dict[str, Any]


@names_disk_errors
@names_bad_images()
def evaluate(experiment: Experiment, params: Params, splits: Mapping[str, Split]) -> Evaluation:
    """Evaluate the best checkpoint on every split, and two baselines without training.

    Every example is a query against the rest of its split. It is also a query against the training
    split, if that has its class. Unseen classes also search the test split beside themselves. For
    queries and a gallery of a split's own, and for groups, see `src.data.roles`. The baselines of
    `test` and `unseen` are by the same code: the network before training, and the raw pixels.

    Args:
        experiment: a trained experiment.
        params: the params it was trained with.
        splits: `train` (first), `validation`, `test`, and optionally `unseen`.

    Returns:
        The metrics.
    """
    evaluate_split = _split_evaluator(experiment, params)
    found = Evaluation({}, {}, {}, {}, {})
    all_embedded: dict[str, Embedded] = {}
    all_roles: dict[str, Roles] = {}
    pairs: dict[str, CountedPairs] = {}
    for name, split in splits.items():
        results, kept = evaluate_split(name, split)
        embedded = all_embedded[name] = kept.embedded
        roles = all_roles[name] = kept.roles
        if name == "train":
            searched, confusions = metrics_of_gallery(embedded, kept.ranking, roles)
        else:
            searched, confusions = metrics_against_gallery(
                embedded, all_embedded["train"], roles, all_roles["train"]
            )
            pairs[name] = _pairs(embedded, kept, params.distance_name)
        if searched["num_queries"]:
            found.confusions[name] = confusions
        if name == UNSEEN:
            searched |= metrics_among_known(embedded, all_embedded["test"], roles)
        curves = {n: v for n, v in searched.items() if n in (*AGAINST_GALLERY, *AMONG_KNOWN)}
        write_scalars(str(experiment.model_dir / f"eval_{name}"), curves, results["global_step"])
        found.splits[name] = {
            "num_examples": len(split),
            **_counts_of_roles(roles),
            **searched,
            **defined(results),
        }
    found.thresholds.update(find_thresholds(pairs, params.distance_name, params.embedding_size))
    asking = known_queries(all_embedded, all_roles)
    found.open_set.update(evaluate_open_set(asking, params.distance_name))
    found.baselines.update(_baselines(experiment, params, splits))
    return found


def _pairs(embedded: Embedded, kept: KeepEmbeddings, distance: str) -> CountedPairs:
    """Return the pairs of a split; those that were counted with its ranking are not again."""
    search = search_within(embedded.labels, kept.roles)
    euclidean = kept.ranking.pairs
    return counted_pairs(*embedded, search.asking, distance, euclidean=euclidean, search=search)


def _counts_of_roles(roles: Roles) -> Metrics:
    """Return how many queries and groups a split has, if it has its own or if groups matter."""
    found: Metrics = {}
    if roles.is_query is not None and roles.is_gallery is not None:
        found["num_own_queries"] = int(roles.is_query.sum())
        found["num_own_gallery"] = int(roles.is_gallery.sum())
    if roles.groups is not None:
        found["num_groups"] = len(np.unique(roles.groups))
    return found


def _split_evaluator(
    experiment: Experiment, params: Params
) -> Callable[[str, Split], tuple[dict[str, Any], KeepEmbeddings]]:
    """Return a function that evaluates the best checkpoint on a split, given its name.

    It returns what `Estimator.evaluate` does, and the split's embeddings.
    """
    trained = build_estimator(experiment, params)
    checkpoint = usable_checkpoint(experiment.model_dir, experiment.best_checkpoint)

    def run(name: str, split: Split) -> tuple[dict[str, Any], KeepEmbeddings]:
        kept = KeepEmbeddings()
        hooks = [
            FitsNetwork(experiment.model_dir, checkpoint),
            UseRoles(split, params),
            ProgressBar(f"evaluate {name}", len(split)),
            kept,
        ]
        results = trained.evaluate(
            partial(eval_input_fn, split, params),
            name=name,
            hooks=hooks,
            checkpoint_path=str(checkpoint),
        )
        return results, kept

    return run


def _baselines(
    experiment: Experiment, params: Params, splits: Mapping[str, Split]
) -> dict[str, dict[str, Metrics]]:
    """Return the metrics of the reported splits by the untrained network and by the pixels."""
    found: dict[str, dict[str, Metrics]] = {}
    reported = {name: splits[name] for name in ("train", "test", UNSEEN) if name in splits}
    untrained = experiment.untrained_checkpoint
    if index_of(untrained).exists():
        found["untrained"] = _baseline(
            reported, params, lambda split: embed(experiment, params, split, untrained)
        )
    found["raw_pixels"] = remembered(
        reported,
        lambda: _baseline(reported, params, lambda split: raw_pixels(split.images)),
        excludes_groups=params.exclude_same_group,
    )
    return found


def _baseline(
    splits: Mapping[str, Split],
    params: Params,
    embed_split: Callable[[Split], NDArray[np.float32]],
) -> dict[str, Metrics]:
    """Return the metrics of every split except `train`, the gallery, by another embedding."""
    embedded = {name: Embedded(embed_split(split), split.labels) for name, split in splits.items()}
    roles = {name: roles_of(split, params) for name, split in splits.items()}
    found = {
        name: {
            **metrics_within(embedded[name], roles[name])[0],
            **metrics_against_gallery(
                embedded[name], embedded["train"], roles[name], roles["train"]
            )[0],
        }
        for name in splits
        if name != "train"
    }
    if UNSEEN in found:
        found[UNSEEN] |= metrics_among_known(embedded[UNSEEN], embedded["test"], roles[UNSEEN])
    return found
