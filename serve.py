"""Serve a gallery over HTTP: `python serve.py --model_dir experiments/demo`."""

from src.system.first_moments import end_silently

if __name__ == "__main__":
    end_silently()  # before imports that take long

import argparse
import ipaddress
import secrets
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from src.errors import UserError
from src.gallery.gallery import Gallery
from src.system.cli import add_experiment, add_gallery, program_parser, run, whole_number
from src.system.regular_file import read_regular

EXAMPLES = """\
  python serve.py --model_dir experiments/demo             # then open http://127.0.0.1:8000
  python serve.py --model_dir experiments/demo --port 9000
  python serve.py --model_dir experiments/demo --host 0.0.0.0 --token_file token.txt
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
    with Gallery(args.model_dir, args.gallery) as gallery:
        gallery.embed(np.zeros((1, *gallery.identity.image_shape), np.uint8))  # starts TensorFlow
        size = len(gallery.snapshot())
        hosts = _LOOPBACK if is_private else tuple(args.allow_host)
        app = create_app(gallery, hosts=hosts, token=token)
        config = uvicorn.Config(
            app,
            host=args.host,
            port=args.port,
            log_level="warning",
            access_log=args.verbose,
            timeout_graceful_shutdown=30,
            server_header=False,
        )
        print(f"{gallery.store.where}: {size} pictures")
        print(f"Open http://{args.host}:{args.port}\nCtrl-C ends it.", flush=True)
        uvicorn.Server(config).run()
