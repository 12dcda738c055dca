"""Name the class of pictures: `python query.py --model_dir experiments/demo PICTURE ...`."""

from src.system.first_moments import end_silently

if __name__ == "__main__":
    end_silently()  # before imports that take long

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from src.distance import DISTANCES
from src.errors import UserError
from src.gallery.answer import Answer
from src.gallery.gallery import DEFAULT_NEIGHBOURS, Gallery
from src.gallery.sheet import MAX_QUERIES, Asked, write_strips
from src.gallery.sources import (
    BadPicture,
    GivenPicture,
    Place,
    preparation,
    read,
    unlabelled,
)
from src.printable import counted, printable
from src.system.cli import (
    add_experiment,
    add_far,
    add_gallery,
    png_path,
    program_parser,
    run,
    whole_number,
)
from src.system.progress import progress_bar

EXAMPLES = """\
  python query.py --model_dir experiments/demo photo.png
  python query.py --model_dir experiments/demo pictures/ --json > answers.jsonl
  python query.py --model_dir experiments/demo a.png b.png --save nearest.png
  python query.py --model_dir experiments/demo --verify a.png b.png
  curl -s https://example.org/photo.jpg | python query.py --model_dir experiments/demo -"""

EXIT_UNKNOWN = 4

_BLOCK_SIZE = 128  # pictures embedded and answered at a time


def main(argv: Sequence[str] | None = None) -> None:
    """Answer for each picture which class it is of, or that it is unknown."""
    parser = _parser()
    args = parser.parse_args(argv)
    if bool(args.pictures) == bool(args.verify):
        found = "pictures and --verify" if args.verify else "no picture"
        parser.error(f"found {found}; accepted: pictures, or --verify A B")
    if args.verify and (args.save or args.fail_on_unknown):
        parser.error("--verify: found --save or --fail_on_unknown; accepted: these with pictures")
    with Gallery(args.model_dir, args.gallery, approximate=args.approximate) as gallery:
        if args.verify:
            _verify(gallery, args)
            return
        places = unlabelled(args.pictures)
        gallery.judge.threshold(args.far)  # refuse a rate that was not measured, before the work
        num_bad = num_unknown = 0
        asked: list[Asked] = []
        for given, answer in _answers(gallery, places, args):
            if isinstance(given, BadPicture):
                print(f"error: {given.message}", file=sys.stderr)
                num_bad += 1
                continue
            num_unknown += answer.class_name is None
            _print(given.place.name, answer, as_json=args.json)
            if args.save and len(asked) < MAX_QUERIES:
                asked.append(Asked(given.place.name, given.image, answer))
        if args.save and asked:
            _save(gallery, args.save, asked, len(places) - num_bad)
    if num_bad:
        raise UserError(f"{num_bad} of {counted(len(places), 'picture')} could not be read")
    if args.fail_on_unknown and num_unknown:
        sys.stdout.flush()
        sys.exit(EXIT_UNKNOWN)


def _answers(
    gallery: Gallery, places: Sequence[Place], args: argparse.Namespace
) -> Iterator[tuple[GivenPicture | BadPicture, Answer | None]]:
    """Yield each picture with its answer, in order; a bad one has none."""
    prepare = preparation(gallery.params, gallery.identity.image_shape)
    pictures = read(places, prepare)
    with progress_bar("query", len(places), "pictures") as bar:
        while block := list(islice(pictures, _BLOCK_SIZE)):
            good = [given for given in block if isinstance(given, GivenPicture)]
            answers = iter(())
            if good:
                images = np.stack([given.image for given in good])
                answers = iter(gallery.query(images, neighbours=args.neighbours, far=args.far))
            for given in block:
                yield given, None if isinstance(given, BadPicture) else next(answers)
            bar.update(len(block))


def _print(name: str, answer: Answer, *, as_json: bool) -> None:
    """Print an answer: a line for the verdict, and one for each neighbour."""
    if as_json:
        print(json.dumps(answer.as_json(name)), flush=True)
        return
    verdict = "unknown" if answer.class_name is None else printable(answer.class_name)
    print(f"{printable(name)}: {verdict} ({answer.reason})")
    for near in answer.neighbours:
        print(
            f"  {near.distance:8.4g}  {printable(near.class_name)}  "
            f"#{near.id}  {printable(near.source)}"
        )


def _verify(gallery: Gallery, args: argparse.Namespace) -> None:
    """Print whether two pictures show the same class."""
    first, second = args.verify
    for name in args.verify:
        if Path(name).is_dir() or Path(name).suffix.lower() == ".csv":
            raise UserError(f"--verify: found {name}, which may be many; accepted: two pictures")
    prepare = preparation(gallery.params, gallery.identity.image_shape)
    pictures = list(read(unlabelled([first, second]), prepare))
    for given in pictures:
        if isinstance(given, BadPicture):
            raise UserError(given.message)
    result = gallery.verify(pictures[0].image, pictures[1].image, far=args.far)
    if args.json:
        print(json.dumps({"pictures": [first, second], **result.as_json()}))
        return
    same = "the same class" if result.is_same else "different classes"
    print(f"{printable(first)} and {printable(second)}: {same} ({result.reason})")


def _save(gallery: Gallery, path: Path, asked: Sequence[Asked], total: int) -> None:
    """Draw the queries beside their nearest pictures."""
    ids = sorted({near.id for query in asked for near in query.answer.neighbours})
    thumbnails = {picture.id: picture.thumbnail for picture in gallery.store.pictures(ids)}
    write_strips(path, asked, thumbnails, distance=DISTANCES[gallery.identity.distance].title)
    drawn = "" if len(asked) == total else f" (the first {len(asked)} of {total} pictures)"
    print(f"wrote {path}{drawn}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = program_parser(
        "Name the class of pictures by a gallery of known classes, or find them unknown.",
        EXAMPLES,
    )
    add_experiment(parser)
    add_gallery(parser)
    parser.add_argument(
        "pictures",
        nargs="*",
        metavar="PICTURE",
        help="a picture, a folder (searched at any depth), a CSV file with a column path, or - for "
        "a picture from standard input",
    )
    parser.add_argument(
        "--verify",
        nargs=2,
        metavar=("A", "B"),
        help="compare two pictures instead: do they show the same class?",
    )
    parser.add_argument(
        "--neighbours",
        type=whole_number(1, 1000),
        default=DEFAULT_NEIGHBOURS,
        metavar="K",
        help=f"list the K nearest pictures (default: {DEFAULT_NEIGHBOURS})",
    )
    add_far(parser)
    parser.add_argument(
        "--approximate",
        action="store_true",
        help="search by the index of a gallery in PostgreSQL (gallery.py index); faster in large "
        "galleries, and near pictures may be missed (default: exact)",
    )
    parser.add_argument("--json", action="store_true", help="print a JSON object a line")
    parser.add_argument(
        "--save", type=png_path, metavar="FILE.png", help="draw the pictures and their neighbours"
    )
    parser.add_argument(
        "--fail_on_unknown",
        action="store_true",
        help=f"exit with code {EXIT_UNKNOWN} if a picture is unknown",
    )
    return parser


if __name__ == "__main__":
    run(main)
