"""Downloads the files of datasets from their authors, and verifies their checksums."""

import contextlib
import hashlib
import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path

from src.data.idx import read_chunks
from src.errors import UserError
from src.system.atomic import atomic_write
from src.system.regular_file import open_regular


@dataclass(frozen=True)
class RemoteFile:
    """A file of a dataset, as its authors publish it.

    Attributes:
        url: the address; its last part is the file's name on disk.
        size: bytes, as transferred.
        md5: the checksum of the transferred bytes, hexadecimal, as the authors publish it.
        content_sha256: the checksum of the unpacked bytes, hexadecimal, so that it does not
            depend on the compression. None if only `sha256` is published.
        sha256: the checksum of the transferred bytes, hexadecimal. None if `content_sha256` is
            given.
    """

    url: str
    size: int
    md5: str
    content_sha256: str | None = None
    sha256: str | None = None

    @property
    def name(self) -> str:
        """The name of the file on disk."""
        return self.url.rpartition("/")[2]


def fetch(remote: RemoteFile, folder: Path) -> Path:
    """Download one file; it gets its final name only after both checksums match.

    Args:
        remote: the file to download.
        folder: the target folder; created if missing, and removed if it stays empty.

    Returns:
        The path of the complete file.

    Raises:
        UserError: the file cannot be downloaded or stored, or a checksum differs.
    """
    path = folder / remote.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as staging:
            staged = _download(remote, staging)
            found, expected = _sha256(remote, staged)
            if found != expected:
                unpacked = " of the unpacked file" if remote.content_sha256 else ""
                raise UserError(
                    f"{remote.url}: found sha256 {found}{unpacked}; accepted: {expected}"
                )
            # Copied, not renamed, because only the owner may read pooch's file.
            with atomic_write(path) as file:
                file.write(staged.read_bytes())
    except UserError:
        raise
    except (OSError, ValueError) as error:  # OSError: network, disk; ValueError: pooch's checksum
        reason = " ".join(str(_root_cause(error)).split()).rstrip(".")
        raise UserError(
            f"{remote.url}: not downloaded to {folder}: {reason}; "
            "fix this and run the same command again"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()  # fails unless it is empty
    return path


def _download(remote: RemoteFile, staging: str) -> Path:
    """Download a file into the folder `staging`, with a progress bar; its MD5 is verified."""
    import pooch  # type: ignore[import-untyped]  # slow to import, and needed only here
    from tqdm import tqdm  # type: ignore[import-untyped]

    pooch.get_logger().setLevel(logging.WARNING)
    # disable=None: no bar if stderr is not a terminal
    with tqdm(total=remote.size, unit="B", unit_scale=True, leave=False, disable=None) as bar:
        path = pooch.retrieve(
            remote.url,
            known_hash=f"md5:{remote.md5}",
            fname=remote.name,
            path=staging,
            downloader=pooch.HTTPDownloader(progressbar=bar, chunk_size=1 << 16),
        )
    return Path(path)


def is_present(remote: RemoteFile, folder: Path) -> bool:
    """Return whether the published file is present and its checksum matches."""
    try:
        found, expected = _sha256(remote, folder / remote.name)
    except (OSError, UserError):
        return False
    return found == expected


def _sha256(remote: RemoteFile, path: Path) -> tuple[str, str | None]:
    """Return the SHA-256 of the file at `path`, and the published one."""
    digest = hashlib.sha256()
    if remote.content_sha256:
        for chunk in read_chunks(path):
            digest.update(chunk)
        return digest.hexdigest(), remote.content_sha256
    with open_regular(path) as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest(), remote.sha256


def _root_cause(error: BaseException) -> BaseException:
    """Return the first error of the chain; requests wraps a refused connection four times."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    return error
