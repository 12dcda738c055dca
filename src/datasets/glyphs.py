"""Loads glyphs: characters of several writing systems, drawn from fonts as digits are written."""

from pathlib import Path
from typing import TYPE_CHECKING

from src.data.split import Dataset
from src.data.written_glyphs import GLYPHS_FILE
from src.datasets import npz
from src.errors import UserError
from src.printable import printable

if TYPE_CHECKING:
    from src.params.schema import Params


def load(data_dir: Path, params: "Params") -> Dataset:
    """Load the glyphs that `make data-glyphs` draws; no digit is among them.

    Args:
        data_dir: the folder that holds `glyphs/glyphs.npz`.
        params: not used.

    Returns:
        `train`: images uint8 [N, S, S, 1], white on black, labels int32 [N]. A class is a
        character, by its name in Unicode: `LATIN CAPITAL LETTER A`.

    Raises:
        UserError: the file is missing or damaged.
    """
    path = data_dir / GLYPHS_FILE
    if not path.is_file():
        raise UserError(
            f"{printable(str(path))}: not found; accepted: the file that `make data-glyphs` draws "
            "from the fonts of this machine"
        )
    return npz.load(data_dir, params.model_copy(update={"npz_file": str(GLYPHS_FILE)}))
