"""What `test_stores.py` has processes of their own do to a gallery."""

import dataclasses
import os

from galleries import IDENTITY, picture

from src.gallery import postgresql, sqlite
from src.gallery.store import open_store

STORES = (sqlite, postgresql)  # imported once, not by each process


def _commands():
    keep = [picture(number, f"class {number % 3}") for number in range(40)]
    heart, moved = [picture(100 + k, "heart") for k in range(5)], picture(200, "b")
    return [
        (lambda store: store.replace(IDENTITY, {}, iter(keep)), keep),
        (lambda store: store.add(IDENTITY, heart), keep + heart),
        (lambda store: store.add(IDENTITY, [moved]), [*keep, *heart, moved]),
        (lambda store: store.remove_class("heart"), [*keep, moved]),
        (
            lambda store: store.move(store.embeddings().ids[-1].item(), "c"),
            [*keep, dataclasses.replace(moved, class_name="c")],
        ),
        (lambda store: store.remove_picture(store.embeddings().ids[-1].item()), keep),
    ]


COMMANDS = _commands()
"""Of every kind, each with the contents after it."""


def give_all_commands(where, done):
    """Over and over; write a byte after each."""
    with open_store(where) as store:
        while True:
            for command, _ in COMMANDS:
                command(store)
                os.write(done, b".")


def add_to_two_classes(where, start, done):
    """One by one, 25 pictures to a class of its own, and another one to that of all."""
    with open_store(where) as store:
        for number in range(start, start + 25):
            store.add(IDENTITY, [picture(number, f"class {start}"), picture(7, "both")])
    os.write(done, b".")
