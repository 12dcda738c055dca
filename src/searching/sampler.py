"""How values are drawn, and the forms that Optuna has for ranges and choices."""

import hashlib
import json
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial

from src.sweeping.space import Dimension, Range

_DIGITS = 4  # significant, of a number from a range without a step


class Seeded(BaseSampler):
    """Draws each value with a seed of the study's seed, the trial's number and the key alone.

    Attributes:
        given: values that are not drawn.
    """

    def __init__(self, search: str, seed: int, random_trials: int) -> None:
        """Draw as `search` (`random` or `tpe`) does; TPE draws the first ones at random."""
        self._search = search
        self._seed = seed
        self._random_trials = random_trials
        self.given: dict[str, Any] = {}

    def infer_relative_search_space(
        self, study: "optuna.study.Study", trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return no keys: each is drawn by itself."""
        return {}

    def sample_relative(
        self,
        study: "optuna.study.Study",
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        """Return no values."""
        return {}

    def sample_independent(
        self,
        study: "optuna.study.Study",
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Return a value, in Optuna's form."""
        if param_name in self.given:
            value = self.given[param_name]
            is_choice = isinstance(param_distribution, CategoricalDistribution)
            return _choice(value) if is_choice else value
        words = f"{self._seed} {trial.number} {param_name}"
        seed = int.from_bytes(hashlib.sha256(words.encode()).digest()[:4], "little")
        sampler: BaseSampler
        if self._search == "tpe":
            sampler = TPESampler(
                seed=seed, n_startup_trials=self._random_trials, multivariate=False
            )
        else:
            sampler = RandomSampler(seed=seed)
        return sampler.sample_independent(study, trial, param_name, param_distribution)


def _choice(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def distribution_of(dimension: Dimension) -> BaseDistribution:
    """Return Optuna's form of a range, or of choices as JSON."""
    if not isinstance(dimension, Range):
        return CategoricalDistribution([_choice(value) for value in dimension])
    low, high, step = dimension.low, dimension.high, dimension.step
    if dimension.is_whole:
        return IntDistribution(int(low), int(high), log=dimension.is_log, step=int(step or 1))
    return FloatDistribution(low, high, log=dimension.is_log, step=step)


def values_of(trial: FrozenTrial) -> dict[str, Any]:
    """Return a trial's values as `params.json` has them."""
    values: dict[str, Any] = {}
    for key, value in trial.params.items():
        distribution = trial.distributions[key]
        if isinstance(distribution, CategoricalDistribution):
            values[key] = json.loads(value)
        elif isinstance(distribution, IntDistribution):
            values[key] = int(value)
        else:
            assert isinstance(distribution, FloatDistribution)
            low, high, step = distribution.low, distribution.high, distribution.step
            short = value if step else float(f"{value:.{_DIGITS}g}")
            values[key] = Range(low, high, step=step).exact(min(max(short, low), high))
    return values
