"""Small JSON files of one object: read within a size limit and checked; written whole."""

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from src.errors import UserError
from src.printable import printable
from src.system.atomic import atomic_write
from src.system.regular_file import read_regular

_Model = TypeVar("_Model", bound=BaseModel)


def read_model(path: Path, model: type[_Model], max_bytes: int, accepted: str) -> _Model | None:
    """Return the content of a file; None if there is none.

    Args:
        path: the file.
        model: checks its content.
        max_bytes: the size limit.
        accepted: ends the message about a damaged file.

    Raises:
        UserError: the file is damaged.
    """
    try:
        return model.model_validate_json(read_regular(path, max_bytes))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise UserError(
            f"{printable(str(path))}: damaged ({printable(error.errors()[0]['msg'])}); accepted: "
            f"{accepted}"
        ) from None


def write_model(path: Path, content: BaseModel, indent: int = 2) -> None:
    """Write a file.

    Raises:
        UserError: it cannot be written.
    """
    with atomic_write(path) as file:
        file.write(content.model_dump_json(indent=indent).encode() + b"\n")
