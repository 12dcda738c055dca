"""The experiment of a search's trial."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from src.experiment.experiment import Experiment
from src.params.reading import check_params
from src.searching.ending import trial_name
from src.searching.study import Trial
from src.sweeping.content import with_values
from src.sweeping.plan import Child


def child_of(parent_dir: Path, parent: Mapping[str, Any], trial: Trial) -> Child:
    """Return the experiment of a trial.

    Args:
        parent_dir: where the search is.
        parent: the content of the parent's `params.json`, as a child needs it.
        trial: the trial.

    Raises:
        UserError: its params contradict each other.
    """
    name = trial_name(trial.number)
    content = with_values(parent, trial.values)
    params = check_params(content, Path(name))
    return Child(Experiment(parent_dir / name), content, params)
