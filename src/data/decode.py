"""One picture file to pixels of one size: any format that Pillow opens, however it is stored."""

import contextlib
import ctypes
import logging
import warnings
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError, _imaging

from src.data.bare_copy import bare_copy
from src.data.file_kinds import name_kind
from src.data.pixels import BadImage, read_pixels
from src.printable import printable

__all__ = ["MAX_PIXELS", "MAX_SIDE", "BadImage", "decode", "is_passed_over"]

MAX_PIXELS = 89_478_485
"""Of a picture as stored: Pillow's own threshold for a decompression bomb, 268 MB of RGB."""

MAX_SIDE = 65_535
"""Of a picture as stored, in pixels: the most that JPEG has; a row of any picture takes memory."""

# Formats that Pillow does not decode itself: EPS is handed to Ghostscript, and the others only
# have a place for a program's own reader.
_UNREAD_FORMATS = ("EPS", "MPEG", "BUFR", "GRIB", "HDF5")

_SYSTEM_NAMES = frozenset(
    (
        *("thumbs.db", "thumbs.db:encryptable", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini"),
        *("$recycle.bin", "system volume information", "lost+found"),
        *(".ds_store", "__macosx", "icon\r", ".localized", ".appledouble", ".spotlight-v100"),
        *("network trash folder", "temporary items", "@eadir", "#recycle", "#snapshot", "@recycle"),
        *("@recently-snapshot", "picasa.ini", ".picasa.ini", "zbthumbnail.info", ".directory"),
        *(".trash", ".trashes", ".thumbnails"),
    )
)

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# What Pillow and its libtiff say of odd files names none of them. Errors are raised all the same.
warnings.filterwarnings("ignore", module="PIL")
logging.getLogger("PIL").addHandler(logging.NullHandler())
logging.getLogger("PIL").propagate = False
with contextlib.suppress(OSError, AttributeError):  # where libtiff is a part of Pillow's module
    ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(None)


def is_passed_over(name: str) -> bool:
    """Return whether a file or folder of this name is a system's own: Thumbs.db, __MACOSX, ..."""
    return name.lower() in _SYSTEM_NAMES or name.startswith("._")


def decode(path: Path, *, size: int, mode: str, resize: str) -> NDArray[np.uint8]:
    """Read a picture.

    It is turned upright as its EXIF data say. What is transparent becomes white, any other depth
    becomes 8 bits a channel and CMYK becomes RGB. Of an animation the first frame is taken.

    Args:
        path: a regular file, which is not trusted.
        size: S, the height and width of the result, in pixels.
        mode: "RGB" or "L", grey.
        resize: "scale" stretches the picture to the square; "pad" keeps its shape, centred, and
            fills up with black.

    Returns:
        uint8 [S, S, C], C by the mode 3 or 1.

    Raises:
        BadImage: the file is not a picture, is damaged or too large, or its pixels have no known
            black and white, or show nothing although there is something.
        OSError: the file cannot be opened.
    """
    with path.open("rb") as file:
        try:
            image = _read_any(file, size, mode)
            image = _fit(image, size, resize)
        except BadImage:
            raise
        except Image.DecompressionBombError:
            text = f"more than {2 * MAX_PIXELS} pixels; at most {MAX_PIXELS} are accepted"
            raise BadImage(text) from None
        except UnidentifiedImageError:
            raise BadImage(name_kind(file) or "not a picture") from None
        except Exception as error:
            # Damaged and hostile files make Pillow raise nearly anything: OSError, SyntaxError,
            # ValueError, struct.error, IndexError, DecompressionBombError, MemoryError, ...
            said = printable(" ".join(str(error).split()))
            raise BadImage(said or type(error).__name__) from None
    return np.asarray(image, np.uint8).reshape(size, size, -1)


def _read_any(file: IO[bytes], size: int, mode: str) -> Image.Image:
    """Read a file as it is, or else without its metadata."""
    try:
        return _read(file, size, mode)
    except (BadImage, Image.DecompressionBombError):
        raise
    except Exception as error:
        bare = bare_copy(file)
        if bare is None:
            raise
        try:
            return _read(bare, size, mode)
        except BadImage:
            raise
        except Exception:
            raise error from None


def _read(file: IO[bytes], size: int, mode: str) -> Image.Image:
    """Return the picture upright, in this mode."""
    reopen = partial(_open, file)
    with reopen() as picture:
        # A JPEG is decoded at a fraction of its size, at least twice the size wanted.
        picture.draft(None, (2 * size, 2 * size))
        image = read_pixels(picture, file, reopen, mode)
        # After the pixels: they may come before the EXIF data, and a TIFF is upright then.
        transpose = _UPRIGHT.get(_orientation(picture))
    return image.transpose(transpose) if transpose is not None else image


def _open(file: IO[bytes]) -> ImageFile.ImageFile:
    file.seek(0)
    Image.init()
    picture = Image.open(file, formats=[name for name in Image.OPEN if name not in _UNREAD_FORMATS])
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise BadImage(f"{width} x {height} pixels; at most {MAX_PIXELS} are accepted")
    if max(width, height) > MAX_SIDE:
        raise BadImage(f"{width} x {height} pixels; at most {MAX_SIDE} a side are accepted")
    return picture


def _orientation(picture: ImageFile.ImageFile) -> int:
    """Return the orientation that EXIF or XMP data say, 1 if none or none that can be read."""
    try:
        value = picture.getexif().get(_ORIENTATION)
        value = value[0] if isinstance(value, (bytes, tuple)) else value
        return next((number for number in _UPRIGHT if number == value), 1)
    except Exception:  # as in `decode`; nothing that is wrong here concerns the picture
        return 1


def _fit(image: Image.Image, size: int, resize: str) -> Image.Image:
    """Return the picture as a square of `size` pixels."""
    width, height = size, size
    if resize == "pad":
        longest = max(image.size)
        width, height = (max(1, round(side * size / longest)) for side in image.size)
    # The gap: pictures far larger than wanted are first reduced by a whole factor, which is fast.
    image = image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)
    if resize == "scale":
        return image
    square = Image.new(image.mode, (size, size), "black")
    square.paste(image, ((size - width) // 2, (size - height) // 2))
    return square
