"""Programs run with a directory on a disk that is small, or read-only: in a mount namespace.

Root ignores permissions, and a test must not fill a real disk.
"""

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
_UNSHARE = ["unshare", "--map-root-user", "--mount"]


def _can_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    command = [*_UNSHARE, "sh", "-c", "mount -t tmpfs none /mnt"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


needs_mounts = pytest.mark.skipif(not _can_mount(), reason="mount namespaces are not allowed here")


def run_mounted(
    directory: Path, kind: str, command: list[object], afterwards: str = "true", size: str = "1m"
) -> subprocess.CompletedProcess[str]:
    """Run `command` with `directory` mounted anew.

    Args:
        directory: its files are there at the beginning; on a tmpfs, changes are lost at the end.
        kind: "tmpfs", of `size`, or "read-only".
        command: what to run, in the project's directory.
        afterwards: a shell command, run in the directory in the end; its output is the result's.
        size: of the tmpfs.
    """
    quoted = shlex.quote(str(directory))
    mount = {
        "tmpfs": f"cp -a {quoted} $copy/; mount -t tmpfs -o size={size} none {quoted}; "
        f"cp -a $copy/*/. {quoted}/",
        "read-only": f"mount --bind {quoted} {quoted}; mount -o remount,bind,ro {quoted}",
    }[kind]
    script = (
        f"set -e; copy=$(mktemp -d); {mount}; rm -r $copy; set +e; "
        f"{shlex.join(map(str, command))}; code=$?; cd {quoted}; {afterwards}; exit $code"
    )
    return subprocess.run(
        [*_UNSHARE, "sh", "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
