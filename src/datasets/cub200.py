"""Loads CUB-200-2011, photographs of 200 species of birds, with the protocol of metric learning."""

from pathlib import Path
from typing import TYPE_CHECKING

from src.data.class_names import as_read
from src.data.file_lists import find_folder, halves, read_fields, whole
from src.data.listed_pictures import listed_dataset
from src.data.listing import Listing
from src.data.split import Dataset
from src.errors import UserError

if TYPE_CHECKING:
    from src.params.schema import Params

# Paths within the folder. `train_test_split.txt` is not used: it divides every class.
IMAGES, LABELS, CLASSES = "images.txt", "image_class_labels.txt", "classes.txt"
_LISTS = (IMAGES, LABELS, CLASSES)


def load(data_dir: Path, params: "Params") -> Dataset:
    """Load CUB-200-2011: the first half of the classes is `train`, the second half is `test`.

    Args:
        data_dir: the folder that holds `cub200/`, or `cub200/` itself. It contains
            `CUB_200_2011/`, as its archive unpacks, or the content of this folder.
        params: see `src.data.listed_pictures.listed_dataset`.

    Returns:
        As `listed_dataset`: 5 864 images of 100 classes in `train`, 5 924 of the others in `test`.

    Raises:
        UserError: a list is missing or wrong, or see `listed_dataset`.

    Source: C. Wah et al., The Caltech-UCSD Birds-200-2011 Dataset, CNS-TR-2011-001. Protocol:
    arXiv:1511.06452, section 5.
    """
    folder = find_folder(data_dir, "cub200", ["CUB_200_2011"], _LISTS)
    names = {number: as_read(name) for number, name in _by_number(folder / CLASSES).items()}
    if len(set(names.values())) < len(names) or not all(names.values()):
        raise UserError(f"{folder / CLASSES}: found a name twice or blank; accepted: each once")
    labels = _by_number(folder / LABELS)
    split_of = halves(names)
    listing = Listing()
    for image, path in _by_number(folder / IMAGES).items():
        if image not in labels:
            raise UserError(
                f"{folder / LABELS}: found no class of image {image} of {IMAGES}; accepted: one of "
                "each image"
            )
        number = whole(labels[image], f"{folder / LABELS}: image {image}")
        if number not in names:
            raise UserError(
                f"{folder / LABELS}: image {image}: found class {number}; accepted: a class of "
                f"{CLASSES}"
            )
        listing.add(f"images/{path}", names[number], split_of[number])
    listing.origins = {"train": "the first half of the classes", "test": "the second half"}
    return listed_dataset(data_dir, folder, folder / IMAGES, listing, params)


def _by_number(path: Path) -> dict[int, str]:
    """Return the text of each numbered line; raise UserError if a number is wrong or repeated."""
    found: dict[int, str] = {}
    for line, (number, text) in read_fields(path, 2):
        where = f"{path}: line {line}"
        if (key := whole(number, where)) in found:
            raise UserError(f"{where}: found {key} again; accepted: each number once")
        found[key] = text
    return found
