"""Serve a gallery over HTTP: `python serve.py --model_dir experiments/demo`."""

from src.system.first_moments import end_silently

if __name__ == "__main__":
    end_silently()  # before imports that take long

import argparse
import ipaddress
import logging
import os
import secrets
import socket
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from src.errors import UserError
from src.gallery.gallery import Gallery
from src.printable import counted
from src.system.cli import add_experiment, add_far, add_gallery, program_parser, run, whole_number
from src.system.regular_file import read_regular

EXAMPLES = """\
  python serve.py --model_dir experiments/demo             # then open http://127.0.0.1:8000
  python serve.py --model_dir experiments/demo --port 9000
  python serve.py --model_dir experiments/demo --host 192.168.1.5 --token_file token.txt
  curl -F picture=@photo.png http://127.0.0.1:8000/query"""

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def main(argv: Sequence[str] | None = None) -> None:
    """Serve a gallery until a signal ends it."""
    args = _parser().parse_args(argv)
    require_packages()
    import uvicorn

    from src.gallery.service import create_app

    is_private = _is_loopback(args.host)
    token = _token(args.token_file)
    if not is_private and token is None:
        raise UserError(
            f"--host {args.host}: other machines can reach it; accepted: with --token_file FILE, "
            "whose token every change of the gallery must bring"
        )
    with (
        _listening(args.host, args.port) as listener,
        Gallery(args.model_dir, args.gallery) as gallery,
    ):
        gallery.judge.threshold(args.far)  # refuse a rate that was not measured
        gallery.embed(np.zeros((1, *gallery.identity.image_shape), np.uint8))  # starts TensorFlow
        size = len(gallery.snapshot())
        hosts = served_hosts(args.host, args.allow_host)
        app = create_app(gallery, hosts=hosts, token=token, far=args.far)
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=args.verbose,
            timeout_graceful_shutdown=30,
            server_header=False,
        )
        if args.verbose:  # uvicorn gives all its logs one level
            logging.getLogger("uvicorn.access").setLevel(logging.INFO)
        print(f"{gallery.store.where}: {counted(size, 'picture')}")
        print(f"Open http://{_in_url(args.host)}:{args.port}\nCtrl-C ends it.", flush=True)
        uvicorn.Server(config).run(sockets=[listener])


def served_hosts(host: str, allowed: Sequence[str]) -> tuple[str, ...]:
    """Return the names by which a service at an address may be called; empty for all."""
    own = (*_LOOPBACK, _in_url(host)) if _is_loopback(host) else ()
    return (*own, *allowed)


def require_packages() -> None:
    """Refuse to start without the packages of the extra `serve`.

    Raises:
        UserError: a package is missing.
    """
    try:
        import fastapi  # noqa: F401
        import fastapi_offline  # noqa: F401
        import multipart  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"serve.py: a package cannot be imported ({error}); accepted: an environment with the "
            'extra serve (pip install ".[serve]")'
        ) from None


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        raise UserError(
            f"--host: found {host:.100}; accepted: an IP address of this machine, such as 127.0.0.1"
        ) from None


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _listening(host: str, port: int) -> socket.socket:
    """Return a socket at an address; clients that connect wait until the service takes it over."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
        # An answer goes out at once. asyncio sets this only for sockets that it makes itself.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except OSError as error:
        raise UserError(
            f"--host {host} --port {port}: {os.strerror(error.errno or 0)}; accepted: an address "
            "of this machine, with a port that is free"
        ) from None


def _token(path: Path | None) -> str | None:
    """Return the token in a file; the file is made, with a new one, if it is missing."""
    if path is None:
        return None
    try:
        token = read_regular(path, 1000).decode("ascii", "replace").strip()
    except FileNotFoundError:
        token = secrets.token_urlsafe(32)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise UserError(
                f"{path}: a link to nothing, or just made by another process; accepted: a file "
                "with a token, or no file"
            ) from None
        with open(descriptor, "w") as file:
            file.write(f"{token}\n")
        print(f"wrote a new token to {path}")
    if not 16 <= len(token) <= 200 or not token.isascii() or not token.isprintable():
        raise UserError(f"{path}: no token; accepted: one line of 16 to 200 characters of ASCII")
    return token


def _parser() -> argparse.ArgumentParser:
    parser = program_parser(
        "Serve a gallery over HTTP, with a page: query, enrol, remove.", EXAMPLES
    )
    add_experiment(parser)
    add_gallery(parser)
    parser.add_argument(
        "--port", type=whole_number(1, 2**16 - 1), default=8000, help="the port (default: 8000)"
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="the address to listen at (default: 127.0.0.1, this machine alone); others need "
        "--token_file",
    )
    parser.add_argument(
        "--allow_host",
        action="append",
        default=[],
        metavar="NAME",
        help="another name by which the service is called, such as a proxy's; others are refused "
        "(default: this machine's own names; with another --host every name)",
    )
    parser.add_argument(
        "--token_file",
        type=Path,
        metavar="FILE",
        help="a file with the token that every change must bring; made if it is missing",
    )
    add_far(parser)
    parser.add_argument("--verbose", action="store_true", help="print each request")
    return parser


if __name__ == "__main__":
    run(main)
