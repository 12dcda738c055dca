"""The file of a search's journal, before Optuna reads it."""

import json
from pathlib import Path

from src.errors import UserError
from src.printable import printable
from src.system.regular_file import require_regular


def mend(path: Path) -> None:
    """Cut off an incomplete last line, which a kill, a full disk or a power failure may leave.

    Raises:
        UserError: another line is none of Optuna's.
    """
    require_regular(path)
    try:
        with open(path, "r+b") as file:
            whole = 0
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):  # the last
                    file.truncate(whole)
                    break
                if not _is_entry(line):
                    found = printable(line[:60].decode(errors="backslashreplace").strip())
                    raise UserError(
                        f"{printable(str(path))}: line {number}: found {found!r}; accepted: the "
                        "lines that sweep.py wrote, JSON; to resume with what stands before, "
                        "remove the lines from this one on"
                    )
                whole += len(line)
    except FileNotFoundError:
        return


def _is_entry(line: bytes) -> bool:
    """Return whether a line of a journal can be read."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(entry, dict) and isinstance(entry.get("op_code"), int)
