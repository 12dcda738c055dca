"""Downloads the files of a dataset: `python -m src.download fashion_mnist [--data_dir data]`."""

from src.system.first_moments import end_silently

if __name__ == "__main__":
    end_silently()  # before imports that take long

import importlib
from collections.abc import Sequence
from pathlib import Path

from src.data.remote import RemoteFile, fetch, is_present
from src.registry import DATASETS
from src.system.cli import add_data_dir, program_parser, run


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line `argv`, by default sys.argv[1:]."""
    parser = program_parser(
        "Download the missing files of a dataset.",
        "  python -m src.download fashion_mnist",
        prog="python -m src.download",
    )
    parser.add_argument("dataset", choices=sorted(DATASETS), help="the dataset")
    add_data_dir(parser)
    arguments = parser.parse_args(argv)
    download(arguments.dataset, arguments.data_dir)


def download(dataset: str, data_dir: Path) -> None:
    """Download the files of `dataset` to `data_dir`/`dataset`, or to `data_dir` of that name.

    Args:
        dataset: a key of DATASETS. Its module lists the files in REMOTE_FILES.
        data_dir: the folder of all datasets.

    Raises:
        UserError: a file cannot be downloaded or stored, or differs from the published one.
    """
    module = importlib.import_module(DATASETS[dataset].partition(":")[0])
    remote_files: Sequence[RemoteFile] = getattr(module, "REMOTE_FILES", ())
    if not remote_files:
        print(f"{dataset}: nothing to download; see data/README.md for its source")
        return
    folder = data_dir if data_dir.name == dataset else data_dir / dataset
    absent = [remote for remote in remote_files if not is_present(remote, folder)]
    if not absent:
        print(f"{dataset}: all {len(remote_files)} files are in {folder}, checksums match")
        return
    megabytes = sum(remote.size for remote in absent) / 1e6
    print(f"{dataset}: {len(absent)} of {len(remote_files)} files to download, {megabytes:.1f} MB")
    for remote in absent:
        print(f"{remote.url} ({remote.size:,} bytes)", flush=True)
        print(f"  -> {fetch(remote, folder)}, checksums match", flush=True)


if __name__ == "__main__":
    run(main)
