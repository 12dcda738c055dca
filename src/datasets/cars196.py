"""Loads Cars196, photographs of 196 models of cars, with the protocol of metric learning."""

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from src.data.class_names import as_read
from src.data.file_lists import find_folder, halves
from src.data.listed_pictures import listed_dataset
from src.data.listing import Listing
from src.data.split import Dataset
from src.errors import UserError
from src.printable import printable
from src.system.regular_file import read_regular

if TYPE_CHECKING:
    from src.params.schema import Params

# The dataset was published in two layouts. Each file of annotations has the folder of its images.
ALL_IN_ONE = {"cars_annos.mat": ""}
DEVKIT = {
    "devkit/cars_train_annos.mat": "cars_train",
    "devkit/cars_test_annos_withlabels.mat": "cars_test",
}
META = "devkit/cars_meta.mat"

_MAX_BYTES = 1 << 26


def load(data_dir: Path, params: "Params") -> Dataset:
    """Load Cars196: the first half of the classes is `train`, the second half is `test`.

    Args:
        data_dir: the folder that holds `cars196/`, or `cars196/` itself. It contains
            `cars_annos.mat` and `car_ims/`; or `devkit/` (with the labels of the test images),
            `cars_train/` and `cars_test/`.
        params: see `src.data.listed_pictures.listed_dataset`.

    Returns:
        As `listed_dataset`: 8 054 images of 98 classes in `train`, 8 131 of the others in `test`.

    Raises:
        UserError: a list is missing or wrong, or see `listed_dataset`.

    Source: J. Krause et al., 3D Object Representations for Fine-Grained Categorization, 3dRR-13.
    Protocol: arXiv:1511.06452, section 5.
    """
    try:
        folder, files, meta = find_folder(data_dir, "cars196", [], [META, *DEVKIT]), DEVKIT, META
    except UserError:
        tops = (data_dir / "cars196", data_dir)
        has_devkit = any((top / META).is_file() for top in tops)
        if has_devkit and not any((top / name).is_file() for top in tops for name in ALL_IN_ONE):
            raise  # it names the missing files of the devkit
        folder = find_folder(data_dir, "cars196", [], list(ALL_IN_ONE))
        files, meta = ALL_IN_ONE, next(iter(ALL_IN_ONE))
    names = _class_names(folder / meta)
    split_of = halves(range(1, len(names) + 1))
    listing = Listing()
    for file, images in files.items():
        for position, entry in enumerate(_entries(folder / file)):
            where = f"{folder / file}: annotation {position}"
            path, number = _path(entry, images, where), entry.get("class")
            if not isinstance(number, int) or number not in split_of:
                raise UserError(
                    f"{where}: found class {printable(str(number))[:80]}; accepted: 1 to "
                    f"{len(names)}"
                )
            listing.add(path, names[number - 1], split_of[number])
    listing.origins = {"train": "the first half of the classes", "test": "the second half"}
    return listed_dataset(data_dir, folder, folder / next(iter(files)), listing, params)


def _path(entry: Mapping[str, Any], images: str, where: str) -> str:
    """Return the path of an annotation's image within the folder."""
    name = entry.get("fname" if images else "relative_im_path")
    if not isinstance(name, str) or not name:
        raise UserError(f"{where}: found no name of an image; accepted: one")
    return f"{images}/{name}" if images else name


def _class_names(path: Path) -> list[str]:
    names = [as_read(str(name)) for name in np.atleast_1d(_content(path, "class_names"))]
    if len(set(names)) < len(names) or not all(names):
        raise UserError(f"{path}: class_names: found a name twice or blank; accepted: each once")
    return names


def _entries(path: Path) -> Iterator[Mapping[str, Any]]:
    for entry in np.atleast_1d(_content(path, "annotations")):
        if not isinstance(entry, dict):
            raise UserError(f"{path}: annotations: found no struct; accepted: one of each image")
        yield entry


def _content(path: Path, key: str) -> Any:
    """Return a variable of a MATLAB file, which holds data alone and no code."""
    from scipy.io import loadmat  # type: ignore[import-untyped]

    content = read_regular(path, _MAX_BYTES)
    try:
        return loadmat(io.BytesIO(content), simplify_cells=True, variable_names=[key])[key]
    except KeyError:
        raise UserError(f"{path}: found no variable {key}; accepted: one") from None
    # The reader raises many types, because it does not check the file's headers.
    except (OSError, ValueError, TypeError, IndexError, MemoryError, EOFError) as error:
        raise UserError(
            f"{path}: not a readable MATLAB file ({printable(str(error))[:80]}); accepted: the "
            "file as published"
        ) from None
    except Exception as error:
        if type(error).__module__.startswith("scipy."):  # MatReadError and others
            raise UserError(f"{path}: damaged MATLAB file; accepted: as published") from None
        raise
