"""Whether the trainings of a search, begun at different times, can be compared with each other."""

from collections.abc import Iterable

from src.errors import START_OVER, UserError
from src.params.reading import format_value, load_params
from src.sweeping.plan import Child, check_unchanged

# They may change when one training resumes. But values of a longer training, or of one that is
# evaluated at other steps, say nothing about params beside those of a shorter one.
_LENGTH = ("num_epochs", "patience_evaluations", "save_checkpoints_steps")


def check_comparable(children: Iterable[Child]) -> None:
    """Refuse trainings whose directories have other params, or another length of training.

    Raises:
        UserError: the parent or a child was changed since; one line for each key and value.
    """
    children = list(children)
    try:
        check_unchanged(children)
    except UserError as error:
        raise in_search(error) from None
    for child in children:
        if not child.experiment.params_path.exists():
            continue
        made = load_params(child.experiment.params_path)
        for key in _LENGTH:
            now, then = getattr(child.params, key), getattr(made, key)
            if now != then:
                raise UserError(
                    f"{child.name}: {key}: found {format_value(now)}, but {format_value(then)} in "
                    "its params.json; accepted: the same in all trainings of a search, because "
                    "others do not compare; or another --parent_dir"
                )


def in_search(error: UserError) -> UserError:
    """Return an error of a sweep as a search has it, which cannot overwrite."""
    return UserError(str(error).replace(START_OVER, ""))
