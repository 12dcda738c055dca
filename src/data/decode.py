"""Decodes one picture file, of any format that Pillow opens, to pixels of one size."""

import contextlib
import ctypes
import errno
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
from src.data.pixels import read_pixels
from src.data.sample_format import BadImage
from src.printable import printable

PASSING_ERRORS = frozenset(
    (errno.EIO, errno.EMFILE, errno.ENFILE, errno.ETIMEDOUT, errno.EAGAIN, errno.ENOMEM)
    + (errno.ENOTCONN, errno.ECONNRESET, errno.ECONNABORTED)
    + (errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH)
    + ((errno.ESTALE,) if hasattr(errno, "ESTALE") else ())
)
"""Errors of the system that say nothing about a picture: the next time, it may be read."""

__all__ = [
    "PASSING_ERRORS",
    "MAX_PIXELS",
    "MAX_SIDE",
    "BadImage",
    "decode",
    "decode_file",
    "fitted",
    "is_visible",
    "thumbnail_file",
]

MAX_PIXELS = 89_478_485
"""The most pixels of a stored picture. Pillow's decompression-bomb threshold; 268 MB as RGB."""

MAX_SIDE = 65_535
"""The longest side of a stored picture, in pixels. JPEG's maximum; it limits a row's memory."""

# Formats that Pillow does not decode itself. It passes EPS to Ghostscript; the others need a reader
# that the program must register.
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

# Warnings of Pillow and libtiff do not name the file, so they are silenced. Errors still raise.
warnings.filterwarnings("ignore", module="PIL")
logging.getLogger("PIL").addHandler(logging.NullHandler())
logging.getLogger("PIL").propagate = False
with contextlib.suppress(OSError, AttributeError):  # works only if Pillow's module holds libtiff
    ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(None)


def is_visible(name: str) -> bool:
    """Return whether a name is neither hidden nor that of a system: Thumbs.db, __MACOSX, ..."""
    return not name.startswith(".") and name.lower() not in _SYSTEM_NAMES


def decode(path: Path, *, size: int, mode: str, resize: str) -> NDArray[np.uint8]:
    """Read a picture file and resize it to a square; see `decode_file`.

    Raises:
        BadImage: see `decode_file`.
        OSError: the file cannot be opened.
    """
    with path.open("rb") as file:
        return decode_file(file, size=size, mode=mode, resize=resize)


def decode_file(file: IO[bytes], *, size: int, mode: str, resize: str) -> NDArray[np.uint8]:
    """Read a picture from an open file and resize it to a square.

    EXIF orientation is applied. Transparent areas become white. Other depths become 8 bits a
    channel, and CMYK becomes RGB. Of an animation, the first frame is used.

    Args:
        file: a regular file, or bytes in memory; its content is not trusted.
        size: S, the height and width of the result, in pixels.
        mode: "RGB" or "L" (grey).
        resize: "scale" stretches the picture to the square. "pad" keeps its aspect ratio, centres
            it and fills the rest with black.

    Returns:
        uint8 [S, S, C]; C is 3 for RGB and 1 for grey.

    Raises:
        BadImage: the file is not a picture, is damaged or is too large. Or its values for black
            and white are unknown, or its content would become invisible.
    """
    try:
        image = _read_any(file, size, mode)
        image = _fit(image, size, resize)
    except BadImage:
        raise
    except Image.DecompressionBombError:
        text = f"more than {2 * MAX_PIXELS} pixels; accepted: at most {MAX_PIXELS}"
        raise BadImage(text) from None
    except UnidentifiedImageError:
        raise BadImage(name_kind(file) or "not a picture") from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno in PASSING_ERRORS:
            raise
        # On damaged and hostile files, Pillow raises many types: OSError, SyntaxError,
        # ValueError, struct.error, IndexError, DecompressionBombError, MemoryError, ...
        said = printable(" ".join(str(error).split()))
        raise BadImage(said or type(error).__name__) from None
    return np.asarray(image, np.uint8).reshape(size, size, -1)


def fitted(pixels: NDArray[np.uint8], height: int, width: int, channels: int) -> NDArray[np.uint8]:
    """Return an image resized and turned grey or coloured, as pictures are.

    Args:
        pixels: uint8 [h, w, c]; c is 3 for RGB and 1 for grey.
        height: H, in pixels.
        width: W, in pixels. The image is stretched to H x W.
        channels: C, 3 for RGB and 1 for grey.

    Returns:
        uint8 [H, W, C].
    """
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    image = _resized(image.convert("L" if channels == 1 else "RGB"), width, height)
    return np.asarray(image, np.uint8).reshape(height, width, channels)


def thumbnail_file(file: IO[bytes], side: int) -> Image.Image:
    """Read a picture that `decode_file` accepts, RGB, at most `side` pixels a side."""
    picture = _read_any(file, side, "RGB")
    picture.thumbnail((side, side))
    return picture


def _read_any(file: IO[bytes], size: int, mode: str) -> Image.Image:
    """Read a file; if that fails, read it again without its metadata."""
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
    """Return the picture in `mode`, turned upright."""
    reopen = partial(_open, file)
    with reopen() as picture:
        # Pillow decodes a JPEG at a fraction of its size, but at least twice the wanted size.
        picture.draft(None, (2 * size, 2 * size))
        image = read_pixels(picture, file, reopen, mode)
        # Must follow the pixels: EXIF data may come after them, and loading turns a TIFF upright.
        transpose = _UPRIGHT.get(_orientation(picture))
    return image.transpose(transpose) if transpose is not None else image


def _open(file: IO[bytes]) -> ImageFile.ImageFile:
    file.seek(0)
    Image.init()
    picture = Image.open(file, formats=[name for name in Image.OPEN if name not in _UNREAD_FORMATS])
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise BadImage(f"{width} x {height} pixels; accepted: at most {MAX_PIXELS}")
    if max(width, height) > MAX_SIDE:
        raise BadImage(f"{width} x {height} pixels; accepted: at most {MAX_SIDE} per side")
    return picture


def _orientation(picture: ImageFile.ImageFile) -> int:
    """Return the orientation from EXIF or XMP data; 1 if it is missing or unreadable."""
    try:
        value = picture.getexif().get(_ORIENTATION)
        value = value[0] if isinstance(value, (bytes, tuple)) else value
        return next((number for number in _UPRIGHT if number == value), 1)
    except Exception:  # Pillow raises many types, see `decode`; the pixels are not affected
        return 1


def _resized(image: Image.Image, width: int, height: int) -> Image.Image:
    # reducing_gap: a much larger picture is first reduced by an integer factor, which is fast.
    return image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)


def _fit(image: Image.Image, size: int, resize: str) -> Image.Image:
    """Return the picture as a square of `size` pixels."""
    width, height = size, size
    if resize == "pad":
        longest = max(image.size)
        width, height = (max(1, round(side * size / longest)) for side in image.size)
    image = _resized(image, width, height)
    if resize == "scale":
        return image
    square = Image.new(image.mode, (size, size), "black")
    square.paste(image, ((size - width) // 2, (size - height) // 2))
    return square
