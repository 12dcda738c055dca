"""One picture file to pixels of one size: any format that Pillow opens, however it is stored."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

MAX_PIXELS = 89_478_485
"""Of a picture as stored: Pillow's own threshold for a decompression bomb, 268 MB of RGB."""


class BadImage(Exception):
    """A file that is no picture, or one that cannot be used; the message says why."""


def decode(path: Path, *, size: int, mode: str, resize: str) -> NDArray[np.uint8]:
    """Read a picture.

    It is turned upright as its EXIF data say. What is transparent becomes white, 16 bits a channel
    become 8 and CMYK becomes RGB. Of an animation the first frame is taken.

    Args:
        path: a regular file, which is not trusted.
        size: S, the height and width of the result, in pixels.
        mode: "RGB" or "L", grey.
        resize: "scale" stretches the picture to the square; "pad" keeps its shape, centred, and
            fills up with black.

    Returns:
        uint8 [S, S, C], C by the mode 3 or 1.

    Raises:
        BadImage: the file is not a picture, is damaged or too large, or has pixels of 32 bits.
    """
    try:
        with Image.open(path, formats=_formats()) as stored:
            width, height = stored.size
            if width * height > MAX_PIXELS:
                raise BadImage(f"{width} x {height} pixels; at most {MAX_PIXELS} are accepted")
            # A JPEG is decoded at a fraction of its size, at least twice the size wanted.
            stored.draft(None, (2 * size, 2 * size))
            ImageOps.exif_transpose(stored, in_place=True)
            image = _with_8_bits(stored, mode)
        image = _fit(image, size, resize)
    except BadImage:
        raise
    except UnidentifiedImageError:
        raise BadImage("not a picture") from None
    except Exception as error:
        # Damaged and hostile files make Pillow raise nearly anything: OSError, SyntaxError,
        # ValueError, struct.error, IndexError, DecompressionBombError, MemoryError, ...
        raise BadImage(" ".join(str(error).split()) or type(error).__name__) from None
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert(mode), np.uint8).reshape(size, size, -1)


def _formats() -> list[str]:
    """Return the formats that may be opened: all but EPS, which Pillow hands to Ghostscript."""
    Image.init()
    return [name for name in Image.OPEN if name != "EPS"]


def _with_8_bits(image: ImageFile.ImageFile, mode: str) -> Image.Image:
    """Return the picture as L, RGB or RGBA, which can all be resized."""
    # Pillow gives 16 bits a pixel as I;16, in PNG (before Pillow 11) and PPM as I, of 32 bits.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return Image.fromarray((np.asarray(image).clip(0, 0xFFFF) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise BadImage("pixels of 32 bits, whose range is unknown; 8 and 16 bits are accepted")
    if image.has_transparency_data:
        return image.convert("RGBA")
    return image.convert(mode)


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


def is_passed_over(name: str) -> bool:
    """Stub."""
    return name.casefold() in ("thumbs.db", "desktop.ini")
