"""Loads Stanford Online Products, photographs of 22 634 products, by their own file lists."""

from pathlib import Path
from typing import TYPE_CHECKING

from src.data.file_lists import find_folder, read_fields, whole
from src.data.listed_pictures import listed_dataset
from src.data.listing import Listing
from src.data.split import Dataset
from src.errors import UserError

if TYPE_CHECKING:
    from src.params.schema import Params

LISTS = {"train": "Ebay_train.txt", "test": "Ebay_test.txt"}
HEADER = ["image_id", "class_id", "super_class_id", "path"]


def load(data_dir: Path, params: "Params") -> Dataset:
    """Load Stanford Online Products: its lists divide the classes into `train` and `test`.

    Args:
        data_dir: the folder that holds `sop/`, or `sop/` itself. It contains
            `Stanford_Online_Products/`, as its archive unpacks, or the content of this folder.
        params: see `src.data.listed_pictures.listed_dataset`.

    Returns:
        As `listed_dataset`: 59 551 images of 11 318 classes in `train`, 60 502 of 11 316 others in
        `test`. A class is a product; its name is its number.

    Raises:
        UserError: a list is missing or wrong, or see `listed_dataset`.

    Source: arXiv:1511.06452, section 4.
    """
    folder = find_folder(data_dir, "sop", ["Stanford_Online_Products"], list(LISTS.values()))
    listing = Listing(origins=dict(LISTS))
    split_of_class: dict[int, str] = {}
    for split, name in LISTS.items():
        lines = read_fields(folder / name, len(HEADER))
        if not lines or lines[0][1] != HEADER:
            raise UserError(
                f"{folder / name}: line 1: found no header; accepted: {' '.join(HEADER)}"
            )
        for line, (_, class_id, _, path) in lines[1:]:
            where = f"{folder / name}: line {line}"
            number = whole(class_id, where)
            if split_of_class.setdefault(number, split) != split:
                raise UserError(
                    f"{where}: found class {number}, which is also in {LISTS['train']}; accepted: "
                    "each class in one list"
                )
            listing.add(path, str(number), split)
    return listed_dataset(data_dir, folder, folder / LISTS["train"], listing, params)
