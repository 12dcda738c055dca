"""TensorBoard on this machine alone, from within a program."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from src.errors import UserError
from src.stopping import Stopped

HOST = "127.0.0.1"


@contextmanager
def tensorboard(logdir: Path, port: int | None = None) -> Iterator[str]:
    """Run TensorBoard for the length of the block.

    Args:
        logdir: what it shows.
        port: where it listens; None for 6006 or, where that is taken, one of the next free ones.

    Yields:
        The address of its projector.

    Raises:
        UserError: the port is taken, or there is none free.
    """
    from tensorboard import default, program  # type: ignore[import-untyped]

    server = program.TensorBoard(plugins=default.get_plugins())
    arguments = ["tensorboard", "--logdir", str(logdir), "--host", HOST]
    if port is not None:
        arguments += ["--port", str(port)]
    server.configure(argv=arguments)
    try:
        address: str = server.launch()
    except program.TensorBoardServerException as error:
        found = "no free port from 6006 on" if port is None else f"port {port} cannot be had"
        raise UserError(
            f"--serve: {found} ({error}); accepted: a free port, such as --serve 6123, or 0 for any"
        ) from None
    yield f"{address.rstrip('/')}/#projector"


def wait_for_interrupt() -> None:
    """Return when the user presses Ctrl-C."""
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        return
    except Stopped as stopped:  # as within a program
        if stopped.signal != signal.SIGINT:
            raise
