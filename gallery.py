"""Keep the known classes of an experiment, for example `python gallery.py list --model_dir DIR`."""

from src.system.first_moments import end_silently

if __name__ == "__main__":
    end_silently()  # before imports that take long

import argparse
import json
import re
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from src.data.class_names import listed
from src.data.holdout import hold_out
from src.data.split import SPLITS
from src.errors import UserError
from src.experiment.data_record import load_recorded
from src.experiment.experiment import Experiment
from src.gallery import building
from src.gallery.checking import near_duplicates
from src.gallery.gallery import Gallery, load_embedder
from src.gallery.judge import Judge
from src.gallery.record import enrolled_name
from src.gallery.sheet import MAX_ON_SHEET, write_sheet
from src.gallery.sources import (
    BadPicture,
    labelled_by_csv,
    labelled_by_folder,
    preparation,
    read,
    unlabelled,
)
from src.gallery.store import SearchesItself, Store, open_store
from src.gallery.verdict import Calibration
from src.printable import counted, printable
from src.registry import did_you_mean
from src.system.cli import (
    add_data_dir,
    add_experiment,
    add_gallery,
    add_keep_splits,
    png_path,
    print_warnings,
    program_parser,
    run,
    whole_number,
)
from src.system.progress import phase

EXAMPLES = """\
  python gallery.py build --model_dir experiments/demo
  python gallery.py build --model_dir experiments/demo --pictures data/my_pictures/
  python gallery.py add heart a.png b.png --model_dir experiments/demo
  python gallery.py list --model_dir experiments/demo
  python gallery.py show heart --model_dir experiments/demo
  python gallery.py remove heart --model_dir experiments/demo
  python gallery.py copy experiments/demo/gallery.sqlite postgresql://localhost/pictures"""


def main(argv: Sequence[str] | None = None) -> None:
    """Build, change or show a gallery."""
    args = _parser().parse_args(argv)
    args.command(args)


def _build(args: argparse.Namespace) -> None:
    """Embed the pictures of known classes, and store them in place of what was there."""
    experiment = Experiment(args.model_dir)
    params = experiment.trained_params()
    image_shape = experiment.image_shape()
    if args.pictures or args.csv:
        places = labelled_by_folder(args.pictures) if args.pictures else labelled_by_csv(args.csv)
        prepare = preparation(params, image_shape)
        pictures, total = building.from_places(places, prepare), len(places)
    else:
        with phase(f"reading {params.dataset}"):
            loaded = load_recorded(
                params, args.data_dir, experiment, begins=False, keeps_splits=args.keep_splits
            )
        print_warnings(loaded.warnings)
        split = hold_out(loaded.data.splits, params, experiment.params_path)[args.split]
        pictures = building.from_split(split, args.split, params.dataset)
        total = len(split)
    _fill(args.gallery or experiment.own_gallery(), experiment, pictures, total)


def _fill(
    where: str | Path, experiment: Experiment, pictures: Iterable[building.Unembedded], total: int
) -> None:
    """Embed pictures by the best checkpoint, and store them in place of what was there."""
    params, image_shape = experiment.trained_params(), experiment.image_shape()
    embed = load_embedder(experiment, params, image_shape)
    calibration = building.calibration_of(experiment, embed)
    identity = building.identity_of(experiment, params, image_shape, embed)
    with open_store(where, create=True) as store:
        building.build(store, identity, calibration.to_json(), pictures, embed, total)
        _summarise(store)
    print(Judge(calibration).description)


def _rebuild(args: argparse.Namespace) -> None:
    """Embed the stored pictures anew, by the best checkpoint of now."""
    experiment = Experiment(args.model_dir)
    image_shape = experiment.image_shape()
    with _open(args) as store:
        old = store.identity()
        if old is None:
            raise UserError(f"{store.where}: an empty gallery; accepted: one that was built")
        if old.image_shape != image_shape:
            raise UserError(
                f"{store.where}: pictures of {_size(old.image_shape)}; accepted: of "
                f"{_size(image_shape)}, as the experiment has them now (`gallery.py build` takes "
                "the original pictures)"
            )
        where = args.gallery or experiment.own_gallery()
        _fill(where, experiment, building.from_gallery(store), sum(n for _, n in store.classes()))


def _add(args: argparse.Namespace) -> None:
    """Enrol pictures of a class."""
    with Gallery(args.model_dir, args.gallery) as gallery:
        prepare = preparation(gallery.params, gallery.identity.image_shape)
        given = list(read(unlabelled(args.pictures), prepare, with_thumbnails=True))
        if bad := [picture.message for picture in given if isinstance(picture, BadPicture)]:
            raise UserError(
                "\n".join([*bad, f"{len(bad)} of {counted(len(given), 'picture')}; none was added"])
            )
        added = gallery.enrol(
            args.class_name,
            np.stack([picture.image for picture in given]),
            [picture.thumbnail for picture in given],
            [picture.place.name for picture in given],
        )
        new = [result.id for result in added if result.is_new]
        ids = f": #{_ranges(new)}" if new else ""
        print(f"{enrolled_name(args.class_name)}: {counted(len(new), 'picture')} added{ids}")
        for picture, result in zip(given, added, strict=True):
            where = printable(picture.place.name)
            if not result.is_new:
                print(f"  {where}: already there, #{result.id}")
            elif result.also_in:
                others = ", ".join(map(printable, result.also_in))
                print(f"  warning: {where}: the same picture is also in {others}")


def _remove(args: argparse.Namespace) -> None:
    """Remove a class, or one picture."""
    with _open(args) as store:
        if args.picture is not None:
            gone = store.remove_picture(args.picture)
            if gone is None:
                raise UserError(
                    f"{store.where}: no picture {args.picture}; accepted: an id that "
                    "`gallery.py show CLASS` draws below each picture"
                )
            print(f"removed picture {args.picture} of {printable(gone.class_name)}")
            return
        count = store.remove_class(args.class_name)
        if not count:
            raise _no_class(store, args.class_name)
        print(f"removed {enrolled_name(args.class_name)}: {counted(count, 'picture')}")


def _list(args: argparse.Namespace) -> None:
    """Print the classes and their numbers of pictures."""
    with _open(args) as store:
        classes = store.classes()
        if args.json:
            for name, count in classes:
                print(json.dumps({"class": name, "pictures": count}))
            return
        _summarise(store)
        width = max((len(str(count)) for _, count in classes), default=0)
        for name, count in classes:
            print(f"  {count:{width}}  {printable(name)}")
        if (calibration := store.calibration()) is not None:
            judge = Judge(Calibration.from_json(calibration, store.where))
            print(printable(judge.description))


def _show(args: argparse.Namespace) -> None:
    """Draw the contact sheet of a class."""
    name = enrolled_name(args.class_name)
    with _open(args) as store:
        count = dict(store.classes()).get(name, 0)
        if not count:
            raise _no_class(store, name)
        pictures = deque(store.iterate(name), maxlen=MAX_ON_SHEET)
        path = args.save or Path(f"{_file_name(name)}.png")
        print(f"wrote {write_sheet(path, name, pictures, count)}")


def _check(args: argparse.Namespace) -> None:
    """Check that every row is whole, and look for near-duplicates under two classes."""
    with _open(args) as store:
        problems = store.check()
        if not problems:
            problems = near_duplicates(store)
        if problems:
            problems.append(f"{store.where}: {counted(len(problems), 'problem')}")
            raise UserError("\n".join(problems))
        _summarise(store)
        print("every picture is whole, and no picture is nearly the same in two classes")


def _index(args: argparse.Namespace) -> None:
    """Create the index for approximate search."""
    with _open(args) as store:
        if not isinstance(store, SearchesItself):
            raise UserError(
                f"--gallery: found the file {store.where}; accepted: postgresql://... (a file "
                "needs no index: query.py reads it into memory and searches it exactly)"
            )
        with phase("creating the index"):
            store.create_index()
        print("query.py --approximate uses the index")


def _copy(args: argparse.Namespace) -> None:
    """Copy a gallery, to another file or database."""
    with open_store(args.source) as source, open_store(args.target, create=True) as target:
        identity = source.identity()
        if identity is None:
            raise UserError(f"{source.where}: an empty gallery; accepted: one that was built")
        if target.identity() is not None and not args.overwrite:
            raise UserError(
                f"{target.where}: there is a gallery; accepted: none, or --overwrite to replace it"
            )
        calibration = source.calibration() or {}
        target.replace(identity, calibration, building.of_one_build(source, identity, calibration))
        _summarise(target)


def _open(args: argparse.Namespace) -> Store:
    experiment = Experiment(args.model_dir)
    experiment.check_pictures()
    return open_store(args.gallery or experiment.own_gallery())


def _summarise(store: Store) -> None:
    """Print how large a gallery is, and whose."""
    classes, identity = store.classes(), store.identity()
    total = sum(count for _, count in classes)
    print(
        f"{store.where}: {counted(total, 'picture')} of {counted(len(classes), 'class')}, by step "
        f"{identity.step} of {printable(identity.experiment)}"
        if identity
        else f"{store.where}: nothing built yet"
    )


def _no_class(store: Store, name: str) -> UserError:
    names = [known for known, _ in store.classes()]
    accepted = f"{listed(names) or 'none yet'}{did_you_mean(name, names)}"
    return UserError(f"{store.where}: no class '{printable(name)}'; accepted: {accepted}")


def _ranges(ids: Sequence[int]) -> str:
    """Return ids as ranges: `3 to 5, 9`."""
    starts = [i for i, value in enumerate(ids) if i == 0 or value != ids[i - 1] + 1]
    ends = [*(start - 1 for start in starts[1:]), len(ids) - 1]
    runs = [(ids[start], ids[end]) for start, end in zip(starts, ends, strict=True)]
    return ", ".join(str(first) if first == last else f"{first} to {last}" for first, last in runs)


def _size(image_shape: Sequence[int]) -> str:
    return "{} x {} pixels and {} channels".format(*image_shape)


def _file_name(class_name: str) -> str:
    """Return a class name without what cannot stand in a file name, and not too long for one."""
    return re.sub(r"[^\w.-]+", "_", class_name).strip("._")[:40] or "class"


def _parser() -> argparse.ArgumentParser:
    # Long: a flat list of commands and their arguments.
    parser = program_parser(
        "Keep the known classes of an experiment: pictures with their embeddings.", EXAMPLES
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run_command: Callable[[argparse.Namespace], None], text: str) -> Any:
        added = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        added.set_defaults(command=run_command)
        return added

    def of_experiment(name: str, run_command: Any, text: str) -> Any:
        added = command(name, run_command, text)
        add_experiment(added)
        add_gallery(added)
        return added

    build = of_experiment("build", _build, "embed pictures, in place of what the gallery holds")
    source = build.add_mutually_exclusive_group()
    source.add_argument(
        "--split", choices=SPLITS, default="train", help="a split of the dataset (default: train)"
    )
    source.add_argument(
        "--pictures", type=Path, metavar="FOLDER", help="a folder with a folder for each class"
    )
    source.add_argument(
        "--csv", type=Path, metavar="FILE", help="a CSV file with columns path and label"
    )
    add_data_dir(build)
    add_keep_splits(build)

    add = of_experiment("add", _add, "enrol pictures of a class; no training is needed")
    add.add_argument("class_name", metavar="CLASS", help="a known class, or a new one")
    add.add_argument(
        "pictures", nargs="+", metavar="PICTURE", help="a picture, a folder, or - (standard input)"
    )

    remove = of_experiment("remove", _remove, "remove a class, or one picture")
    what = remove.add_mutually_exclusive_group(required=True)
    what.add_argument("class_name", nargs="?", metavar="CLASS", help="the class to remove")
    what.add_argument(
        "--picture", type=whole_number(1), metavar="ID", help="the picture to remove, by its id"
    )

    show_all = of_experiment("list", _list, "list the classes")
    show_all.add_argument("--json", action="store_true", help="print a JSON object a line")

    show = of_experiment("show", _show, "draw the pictures of a class on a contact sheet")
    show.add_argument("class_name", metavar="CLASS", help="the class to draw")
    show.add_argument(
        "--save", type=png_path, metavar="FILE.png", help="the file to write (default: CLASS.png)"
    )

    of_experiment("check", _check, "check every picture, and find near-duplicates in two classes")
    of_experiment(
        "rebuild", _rebuild, "embed the stored pictures anew, after the experiment was retrained"
    )

    of_experiment("index", _index, "create an index for approximate search, in PostgreSQL")

    copy = command("copy", _copy, "copy a gallery to another file or database")
    for name, metavar in (("source", "FROM"), ("target", "TO")):
        copy.add_argument(name, metavar=metavar, help="a file, or postgresql://...")
    copy.add_argument("--overwrite", action="store_true", help="replace a gallery that is there")
    return parser


if __name__ == "__main__":
    run(main)
