"""Augmentation: what each change looks like and costs: `python -m benchmarks.augment`.

Writes a picture of each option on a sample photograph and a digit, and prints a table of processor
time. Each change runs in a graph, as in a training's input. Processor time, because it depends less
on other work on the same machine.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from sklearn.datasets import load_sample_image

from benchmarks.harness import REPOSITORY, print_circumstances, print_table
from model.augment.batch import augment
from model.estimator import tf
from src.data.idx import read_idx
from src.params.schema import Augment

CHANGES: dict[str, dict[str, object]] = {
    "shift": {"shift": 16},
    "shift, fill white": {"shift": 16, "fill": "white"},
    "shift, fill edge": {"shift": 16, "fill": "edge"},
    "shift, fill reflect": {"shift": 16, "fill": "reflect"},
    "rotation": {"rotation": 30.0},
    "flip": {"flip": True},
    "crop 0.5": {"crop": 0.5},
    "crop_area 0.08 to 1": {"crop_area": (0.08, 1.0)},
    "elastic": {"elastic": 5.0},
    "elastic, reflect": {"elastic": 5.0, "fill": "reflect"},
    "brightness": {"brightness": 0.5},
    "contrast": {"contrast": 0.8},
    "saturation": {"saturation": 1.0},
    "hue": {"hue": 0.5},
    "grayscale": {"grayscale": 0.5},
    "blur": {"blur": 4.0},
    "erasing": {"erasing": 1.0},
    "all of colour": {
        **{"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1, "grayscale": 0.2},
    },
}
_OF_COLOUR = {"saturation", "hue", "grayscale"}
_TILE, _COPIES, _LABEL = 64, 4, 130


def picture() -> Image.Image:
    """Return the changes in rows: their names, four photographs, four digits."""
    photograph = Image.fromarray(load_sample_image("china.jpg")).crop((120, 0, 547, 427))
    digits = read_idx(REPOSITORY / "data/mnist/t10k-images-idx3-ubyte.gz")
    digit = Image.fromarray(digits[0])
    samples = [
        np.asarray(image.resize((_TILE, _TILE), Image.Resampling.LANCZOS), np.float32) / 255
        for image in (photograph, digit)
    ]
    batches = [np.repeat(image.reshape(1, _TILE, _TILE, -1), _COPIES, 0) for image in samples]
    width = _LABEL + 2 * _COPIES * _TILE
    sheet = Image.new("RGB", (width, _TILE * (1 + len(CHANGES))), "white")
    draw = ImageDraw.Draw(sheet)
    for row, (name, change) in enumerate({"unchanged": {}, **CHANGES}.items()):
        draw.text((4, row * _TILE + _TILE // 2 - 5), name, fill="black")
        for column, images in enumerate(batches):
            if images.shape[3] == 1 and change.keys() & _OF_COLOUR:
                continue
            changed = augment(tf.constant(images), tf.constant([1, 0], tf.int64), Augment(**change))
            pixels = np.round(np.asarray(changed) * 255).astype(np.uint8)
            for copy, one in enumerate(np.repeat(pixels, 4 - pixels.shape[3], 3)[..., :3]):
                left = _LABEL + (column * _COPIES + copy) * _TILE
                sheet.paste(Image.fromarray(one), (left, row * _TILE))
    # 128 colours are enough to see the changes, and take a third of the bytes.
    return sheet.quantize(128)


def milliseconds(change: Augment, images: NDArray[np.float32]) -> float:
    """Return the processor time of changing a batch, the least of seven, in milliseconds."""
    batch = tf.constant(images)
    function = tf.function(lambda step: augment(batch, tf.stack([0, step]), change))
    function(tf.constant(0, tf.int64))
    times = []
    for step in range(1, 8):
        start = time.process_time()
        function(tf.constant(step, tf.int64)).numpy()
        times.append(time.process_time() - start)
    return 1000 * min(times)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line `argv`, by default sys.argv[1:]."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument("--picture", type=Path, help="write the picture to this file (PNG)")
    args = parser.parse_args(argv)
    if args.picture:
        picture().save(args.picture, optimize=True)
        return
    print_circumstances(
        "benchmarks.augment",
        "The least of seven runs; processor time of all threads.",
        ("numpy", "tensorflow"),
    )
    rng = np.random.default_rng(0)
    shapes = [(64, 28, 28, 1), (64, 64, 64, 3), (64, 224, 224, 3)]
    batches = [rng.random(shape, np.float32) for shape in shapes]
    rows = []
    for name, change in CHANGES.items():
        cells = [
            "-"
            if images.shape[3] == 1 and change.keys() & _OF_COLOUR
            else f"{milliseconds(Augment(**change), images):.1f}"
            for images in batches
        ]
        rows.append([name, *cells])
    header = ["CPU ms a batch", *(" x ".join(map(str, shape)) for shape in shapes)]
    print_table(header, rows, markdown=args.markdown)


if __name__ == "__main__":
    main()
