"""Runs TensorBoard inside a program; only this machine can access it."""

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

# The `Host` header of a browser on this machine.
_HOST = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d+)?", re.IGNORECASE)

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


@contextmanager
def tensorboard(logdir: Path, port: int | None = None) -> Iterator[str]:
    """Run TensorBoard while the block runs.

    Args:
        logdir: the directory to show.
        port: the port to listen on. If None, 6006 or, if that is in use, one of the next free ones.

    Yields:
        The URL of its projector.

    Raises:
        UserError: the port is in use, or no port is free.
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
        found = "no free port from 6006 on" if port is None else f"no free port {port}"
        raise UserError(
            f"--serve: found {found} ({error}); accepted: a free port, such as --serve 6123, or 0 "
            "for any"
        ) from None
    yield f"{address.rstrip('/')}/#projector"


def only_for_this_machine(application: Application) -> Application:
    """Return a WSGI application that rejects requests whose `Host` is not this machine.

    This prevents DNS rebinding: a foreign web page whose host name resolves to 127.0.0.1 could
    otherwise read TensorBoard's data. Requests of such a page carry its own host name.
    """

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if _HOST.fullmatch(environ.get("HTTP_HOST", "")):
            return application(environ, start_response)
        start_response("403 Forbidden", [("Content-Type", "text/plain; charset=utf-8")])
        return [f"Open it at {HOST}; other host names are not accepted.\n".encode()]

    return answer


def wait_for_interrupt() -> None:
    """Return when the user presses Ctrl-C."""
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        return
    except Stopped as stopped:  # raised under `src.system.signals`
        if stopped.signal != signal.SIGINT:
            raise
