"""Does a model of digits know strangers, and can they be enrolled? Tables of docs/gallery.md.

    python train.py --model_dir experiments/open_digits
    python -m benchmarks.open_set

The gallery is the training split. Strangers are drawings of `benchmarks/strangers.py`. The score is
chosen on one half of their shapes, with the validation split; the test split and the other shapes
are reported.
"""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from benchmarks.harness import REPOSITORY, add_arguments, print_table, progress
from benchmarks.stranger_scores import (
    SCORES,
    Embeddings,
    Gallery,
    Queries,
    Values,
    find,
    make_gallery,
    whitening,
)
from benchmarks.strangers import CHOOSING, DIGITS, REPORTED, draw
from src.data.loading import load_data
from src.data.split import Split
from src.embeddings.search import k_nearest_neighbors
from src.experiment.experiment import Experiment
from src.params.reading import load_params

SEEDS = range(5)
DRAWINGS_PER_SEED = 40

FPIRS = (0.2, 0.1, 0.01)
"""The rates at which thresholds are set; enrolment is measured at the first one."""

ENROLLED = (1, 2, 5, 20)
REPETITIONS = 40  # of an enrolment, with other drawings each time


def main(argv: Sequence[str] | None = None) -> None:
    """Embed digits and drawings, and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.open_set", description=__doc__)
    add_arguments(parser)
    parser.add_argument(
        "--model_dir", type=Path, default=REPOSITORY / "experiments" / "open_digits"
    )
    parser.add_argument("--data_dir", type=Path, default=REPOSITORY / "data")
    args = parser.parse_args(argv)
    splits, drawn = embed_all(Experiment(args.model_dir), args.data_dir)
    identity = np.eye(splits["train"][0].shape[1])
    for space, linear in (("as embedded", identity), ("whitened", whitening(*splits["train"]))):
        progress(f"searching neighbours, {space}")
        print(f"\nDistances {space}", flush=True)
        print_tables(
            {
                name: ((x @ linear).astype(np.float32), labels)
                for name, (x, labels) in splits.items()
            },
            {name: (x @ linear).astype(np.float32) for name, x in drawn.items()},
            markdown=args.markdown,
        )


def mapped(embeddings: Embeddings, linear: Values) -> Embeddings:
    """Return embeddings after a linear map, [D, D]."""
    return (embeddings @ linear).astype(np.float32)


def print_tables(
    splits: Mapping[str, tuple[Embeddings, NDArray[np.int32]]],
    drawn: Mapping[str, Embeddings],
    *,
    markdown: bool,
) -> None:
    """Search neighbours and print the tables.

    Args:
        splits: by name, embeddings and labels.
        drawn: by shape, the embeddings of its drawings.
        markdown: how to print.
    """
    gallery = make_gallery(*splits["train"])
    known = {name: find(gallery, splits[name][0]) for name in ("validation", "test")}
    labels = {name: splits[name][1] for name in known}
    strangers = {name: find(gallery, embeddings) for name, embeddings in drawn.items()}
    right = gallery.labels[known["test"].positions[:, 0]] == labels["test"]
    thresholds = {fpir: left_out_threshold(known, labels, fpir) for fpir in FPIRS}
    factors = distance_factors(gallery, known["validation"], labels["validation"])
    print(f"recall@1 on test {right.mean():.4f}", flush=True)
    print_table(
        ["score", "AUROC, shapes of the choice", "the hardest shape", "AUROC, reported shapes"],
        list(compare_scores(gallery, known, strangers)),
        markdown=markdown,
    )
    print_table(
        ["shape", "AUROC", "AUROC, not normalized", "distance to a digit, 1 % and 50 %"],
        list(describe_shapes(known["test"], strangers)),
        markdown=markdown,
    )
    print_table(
        ["FPIR", "threshold", "test digits", "digits by the pen", *REPORTED, "all of the choice"],
        list(accepted(thresholds, known["test"], strangers)),
        markdown=markdown,
    )
    print_table(
        ["enrolled", *map(str, ENROLLED)],
        [["factor", *(f"{factors[count]:.2f}" for count in ENROLLED)]],
        markdown=markdown,
    )
    print_table(
        ["shape", "enrolled", "found", "fewest", "found without the factor", "taken for a digit"]
        + ["other shapes taken for it", "test digits taken for it"],
        list(enrol_shapes(thresholds[FPIRS[0]], factors, known["test"], strangers)),
        markdown=markdown,
    )


def embed_all(
    experiment: Experiment, data_dir: Path
) -> tuple[dict[str, tuple[Embeddings, NDArray[np.int32]]], dict[str, Embeddings]]:
    """Return each split's embeddings and labels, and each shape's embeddings.

    The reported shapes are drawn twice: as `name`, and not normalized, as `name, loose`.
    """
    from model.training.embedding import embed

    params = load_params(experiment.params_path)
    splits = load_data(params, data_dir).splits
    images = {name: draw_seeds(name) for name in (*REPORTED, *CHOOSING, *DIGITS)}
    images |= {f"{name}, loose": draw_seeds(name, normalized=False) for name in REPORTED}
    everything = np.concatenate(list(images.values()))
    drawings = Split(everything, np.zeros(len(everything), np.int32), ("drawing",))
    embedded = embed(experiment, params, drawings)
    return (
        {name: (embed(experiment, params, split), split.labels) for name, split in splits.items()},
        dict(zip(images, np.split(embedded, len(images)), strict=True)),
    )


def draw_seeds(shape: str, *, normalized: bool = True) -> NDArray[np.uint8]:
    """Return uint8 [200, 28, 28, 1], 40 drawings of each of 5 seeds."""
    return np.concatenate(
        [draw(shape, DRAWINGS_PER_SEED, seed, normalized=normalized) for seed in SEEDS]
    )


def compare_scores(
    gallery: Gallery, known: Mapping[str, Queries], strangers: Mapping[str, Queries]
) -> Iterable[list[str]]:
    """Yield a row for each score."""
    for name, score in SCORES.items():
        of_known = {split: score(gallery, queries) for split, queries in known.items()}
        of_shapes = {shape: score(gallery, strangers[shape]) for shape in (*REPORTED, *CHOOSING)}
        aurocs = {shape: auroc(of_known["validation"], of_shapes[shape]) for shape in CHOOSING}
        hardest = min(aurocs, key=lambda shape: aurocs[shape])
        yield [
            name,
            f"{auroc(of_known['validation'], _together(of_shapes, CHOOSING)):.4f}",
            f"{hardest} {aurocs[hardest]:.3f}",
            f"{auroc(of_known['test'], _together(of_shapes, REPORTED)):.4f}",
        ]


def describe_shapes(test: Queries, strangers: Mapping[str, Queries]) -> Iterable[list[str]]:
    """Yield a row for each reported shape and for all of them, by the nearest distance."""
    nearest = {name: queries.distances[:, 0] for name, queries in strangers.items()}
    loose = [f"{name}, loose" for name in REPORTED]
    nearest["all"] = _together(nearest, REPORTED)
    nearest["all, loose"] = _together(nearest, loose)
    for shape in (*REPORTED, "all"):
        yield [
            shape,
            f"{auroc(test.distances[:, 0], nearest[shape]):.4f}",
            f"{auroc(test.distances[:, 0], nearest[f'{shape}, loose']):.4f}",
            " and ".join(f"{value:.2f}" for value in np.percentile(nearest[shape], [1, 50])),
        ]


def left_out_threshold(
    known: Mapping[str, Queries], labels: Mapping[str, NDArray[np.int32]], fpir: float
) -> float:
    """Return the threshold at which this share of validation digits would be accepted as another.

    Each digit is a stranger to the gallery of the other nine.
    """
    others = known["validation"].by_class.copy()
    others[np.arange(len(others)), labels["validation"]] = np.inf
    return float(np.quantile(others.min(axis=1), fpir))


def accepted(
    thresholds: Mapping[float, float], test: Queries, strangers: Mapping[str, Queries]
) -> Iterable[list[str]]:
    """Yield for each threshold which shares of test digits and strangers are accepted."""
    nearest = {name: queries.distances[:, 0] for name, queries in strangers.items()}
    for fpir, threshold in thresholds.items():
        shares = [
            np.mean(values <= threshold)
            for values in (
                test.distances[:, 0],
                _together(nearest, DIGITS),
                *(nearest[shape] for shape in REPORTED),
                _together(nearest, CHOOSING),
            )
        ]
        yield [f"{fpir:g}", f"{threshold:.3f}", *(f"{share:.1%}" for share in shares)]


def distance_factors(
    gallery: Gallery, validation: Queries, labels: NDArray[np.int32]
) -> dict[int, float]:
    """Return how much farther the nearest picture of a class is if the class has few.

    Returns:
        By number of enrolled pictures: the median distance of validation digits to the nearest of
        so many random pictures of their class / that to the nearest of all.
    """
    rng = np.random.default_rng(0)
    own = validation.by_class[np.arange(len(labels)), labels]
    factors = {}
    for count in ENROLLED:
        distances = np.empty(len(labels))
        for c in range(labels.max() + 1):
            (members,) = np.nonzero(gallery.labels == c)
            for part in np.array_split(np.flatnonzero(labels == c), 10):
                chosen = gallery.embeddings[rng.choice(members, count, replace=False)]
                distances[part] = _nearest_of(validation.embeddings[part], chosen)
        factors[count] = float(np.median(distances) / np.median(own))
    return factors


def enrol_shapes(
    threshold: float,
    factors: Mapping[int, float],
    test: Queries,
    strangers: Mapping[str, Queries],
) -> Iterable[list[str]]:
    """Yield a row for each reported shape and number of enrolled drawings.

    The others of the shape, the other reported shapes and the test digits are then queries. The
    distance to the shape is divided by the factor of so few pictures.
    """
    for shape in REPORTED:
        others = [strangers[name] for name in REPORTED if name != shape]
        for count in ENROLLED:
            outcomes = np.mean(
                runs := [
                    _enrol(strangers[shape], others, test, count, threshold, factors[count], seed)
                    for seed in range(REPETITIONS)
                ],
                axis=0,
            )
            found, without, as_digit, other_shapes, digits = outcomes
            fewest = min(run[0] for run in runs)
            shares = [found, fewest, without, as_digit, other_shapes, digits]
            yield [shape, str(count), *(f"{share:.1%}" for share in shares)]


def _enrol(
    own: Queries,
    others: Sequence[Queries],
    test: Queries,
    count: int,
    threshold: float,
    factor: float,
    seed: int,
) -> list[float]:
    """Enrol some drawings; return the shares of the columns from "found" on, without "fewest"."""
    order = np.random.default_rng(seed).permutation(len(own.embeddings))
    chosen = own.embeddings[order[:count]]

    def taken(queries: Queries, divisor: float) -> NDArray[np.bool_]:
        distances = _nearest_of(queries.embeddings, chosen) / divisor
        return (distances <= threshold) & (distances < queries.distances[:, 0])

    rest = Queries(*(values[order[count:]] for values in own))
    found = taken(rest, factor)
    return [
        float(np.mean(values))
        for values in (
            found,
            taken(rest, 1),
            ~found & (rest.distances[:, 0] <= threshold),
            np.concatenate([taken(queries, factor) for queries in others]),
            taken(test, factor),
        )
    ]


def _nearest_of(queries: Embeddings, chosen: Embeddings) -> Values:
    return k_nearest_neighbors(queries, chosen, count=1)[1][:, 0]


def _together(values: Mapping[str, Values], names: Iterable[str]) -> Values:
    return np.concatenate([values[name] for name in names])


def auroc(known: Values, strangers: Values) -> float:
    """Return how often a stranger has a larger score than a known query."""
    is_stranger = np.repeat([0, 1], [len(known), len(strangers)])
    return float(roc_auc_score(is_stranger, np.concatenate([known, strangers])))


if __name__ == "__main__":
    main()
