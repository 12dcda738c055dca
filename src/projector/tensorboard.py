"""TensorBoard on this machine alone, from within a program."""

import re
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from src.errors import UserError
from src.system.signals import Stopped

HOST = "127.0.0.1"

# What a browser on this machine puts into `Host`.
_HOST = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d+)?", re.IGNORECASE)

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


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

    def make_server(application: Application, flags: Any) -> Any:
        server = program.create_port_scanning_werkzeug_server(application, flags)
        server.app = only_for_this_machine(application)
        return server

    server = program.TensorBoard(plugins=default.get_plugins(), server_class=make_server)
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


def only_for_this_machine(application: Application) -> Application:
    """Return a WSGI application that answers only if it is asked for by a name of this machine.

    A page from elsewhere whose name is made to lead to 127.0.0.1 (DNS rebinding) could otherwise
    read what TensorBoard shows. Its requests name its own host.
    """

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if _HOST.fullmatch(environ.get("HTTP_HOST", "")):
            return application(environ, start_response)
        start_response("403 Forbidden", [("Content-Type", "text/plain; charset=utf-8")])
        return [f"Open it at {HOST}, not by another name.\n".encode()]

    return answer


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
