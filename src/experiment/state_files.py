"""The JSON files of a run; types and bounds are checked, because files may come from elsewhere."""

import json
import math
import re
from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter

from src.params.metric_names import BEST_METRICS

MAX_BYTES = {"best.json": 2**16, "progress.json": 2**16, "metrics.json": 2**26}
"""The size limit of each file when read; `metrics.json` of 10 000 classes has 2**22 bytes."""

Step = Annotated[int, Field(ge=0, le=2**53)]
Seconds = Annotated[float, Field(ge=0)]
Values = dict[str, float | None]


def _is_best_metric(name: str) -> str:
    if name not in BEST_METRICS:
        raise ValueError("no metric by which a checkpoint is chosen")
    return name


@dataclass(frozen=True)
class Best:
    """What is known about the best checkpoint of a training, between evaluations.

    Attributes:
        metric: the metric that chooses it, on the validation split.
        value: the value of that metric; None if it is undefined.
        step: the step of the checkpoint.
        latest_step: the step of the latest evaluation.
        num_evaluations_since: how many evaluations in a row have not improved the value.
        loss: the validation loss, which decides between equal values; None if unknown.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(
        strict=True, extra="forbid", allow_inf_nan=False
    )

    metric: Annotated[str, AfterValidator(_is_best_metric)]
    value: float | None
    step: Step
    latest_step: Step
    num_evaluations_since: Step
    loss: float | None = None


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Progress(_Strict):
    step: Step
    max_steps: Step
    loss: float | None
    fraction_positive: float | None
    images_per_second: float | None = None


class _BestOfMetrics(_Strict):
    metric: str | None = None
    value: float | None = None
    step: Step | None = None


class _Rates(_Strict):
    fpir: float | None
    dir: float | None


class _RatesAtThreshold(_Strict):
    threshold: float | None
    reported: _Rates


class _Histograms(_Strict):
    edges: Annotated[list[float], Field(min_length=2)]
    known: list[int]
    unknown: list[int]


class _Curve(_Strict):
    fpir: list[float]
    dir: list[float]


class _OpenSet(_Strict):
    class_by: str
    distance: str
    calibrated_on: str
    num_known: Step
    num_strangers: Step
    auroc: float | None
    at: dict[str, _RatesAtThreshold]
    curve: _Curve
    histograms: _Histograms


class _Threshold(_Strict):
    threshold: float | None


class _Thresholds(_Strict):
    distance: str
    at: dict[str, _Threshold]


class _Metrics(_Strict):
    status: Annotated[str, Field(pattern=r"^[a-z_ ]{1,40}$")]
    stopped_early: bool = False
    collapsed: bool = False
    global_step: Step | None = None
    evaluated_step: Step | None = None
    seconds: Seconds = 0.0
    images_per_second: float | None = None
    best: _BestOfMetrics | None = None
    splits: dict[str, Values] = {}
    baselines: dict[str, dict[str, Values]] = {}
    thresholds: _Thresholds | None = None
    open_set: _OpenSet | None = None


_BEST = TypeAdapter(Best)


def parse_best(content: bytes) -> Best:
    """Return the content of `best.json`.

    Raises:
        ValueError: it does not have the form that a run writes.
    """
    return _BEST.validate_json(json.dumps(_parse(content)))  # strict mode: objects only as JSON


def parse_progress(content: bytes) -> dict[str, Any]:
    """Return the content of `progress.json`, as `parse_best` does."""
    return _checked(_Progress, content)


def parse_metrics(content: bytes) -> dict[str, Any]:
    """Return the content of `metrics.json`, as `parse_best` does; NaN and infinity become None."""
    return _checked(_Metrics, content)


def format_best(best: Best) -> bytes:
    """Return the content of `best.json`."""
    return _format(asdict(best), indent=2)


def format_progress(progress: dict[str, Any]) -> bytes:
    """Return the content of `progress.json`."""
    return _format(progress, indent=None)


def format_metrics(metrics: dict[str, Any]) -> bytes:
    """Return the content of `metrics.json`, with each list of numbers on one line."""
    return re.sub(
        rb"\[[\d\s,.e+-]*\]",
        lambda found: re.sub(rb"\s+", b" ", found[0]),
        _format(metrics, indent=2),
    )


def _checked(model: type[BaseModel], content: bytes) -> dict[str, Any]:
    """Return a JSON object after checking those keys that `model` has."""
    values = _parse(content)
    model.model_validate(values)
    return values  # type: ignore[no-any-return]


def _parse(content: bytes) -> Any:
    """Return parsed JSON; numbers that are not finite become None."""
    try:
        return json.loads(content, parse_float=_finite, parse_constant=lambda _: None)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _finite(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


def _format(values: dict[str, Any], indent: int | None) -> bytes:
    """Return JSON; numbers that are not finite become null."""
    try:
        text = json.dumps(values, indent=indent, allow_nan=False)
    except ValueError:
        finite = json.loads(json.dumps(values), parse_constant=lambda _: None)
        text = json.dumps(finite, indent=indent)
    return text.encode() + b"\n"
