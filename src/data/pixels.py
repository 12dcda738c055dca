"""Reads a picture's pixels as 8 bits per channel, with the meaning that its file gives them."""

import re
import sys
from collections.abc import Callable, Iterator
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, ImagePalette

from src.data.sample_format import WAY_OUT, BadImage, SampleFormat, sample_format, tiff_tags

Samples = NDArray[np.uint8] | NDArray[np.uint16]

_DARK_8, _DARK_16 = 16, 16 << 8
"""One sixteenth of white. 16-bit samples that all stay below it likely have 12 bits or fewer."""


def read_pixels(
    picture: ImageFile.ImageFile,
    file: IO[bytes],
    reopen: Callable[[], ImageFile.ImageFile],
    mode: str,
) -> Image.Image:
    """Read an opened picture's pixels as 8 bits per channel, with transparent areas white.

    Args:
        picture: opened, not yet loaded.
        file: the file that `picture` was opened from.
        reopen: opens the picture again.
        mode: "RGB" or "L" (grey).

    Returns:
        The picture in this mode.

    Raises:
        BadImage: the values for black and white are unknown, or the content would be invisible.
        Exception: of nearly any type, from Pillow, if the file is damaged.
    """
    stated = sample_format(picture, file)
    _mend_palette(picture)
    picture.load()
    image: Image.Image = picture
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        image = _from_samples(_grey_samples(picture), "L", stated)
    elif picture.mode in ("L", "LA", "RGB", "RGBA", "CMYK"):
        # From 16 bits, Pillow keeps the upper 8; for PPM, it rounds.
        darkest = _DARK_8 + 1 if stated.used is None else 1 << max(0, stated.used - stated.bits + 8)
        is_low = (stated.bits == 16 or stated.used) and _top(picture) < darkest
        if stated.bits == 16 and (is_low or stated.transparent):
            samples = _all_16_bits(picture, reopen)
            if samples is not None:
                image = _from_samples(samples, picture.mode, stated)
            elif not stated.is_full:
                raise BadImage(_too_dark((_top(picture) << 8) + 0xFF))
        elif is_low:
            image = _from_samples(np.asarray(picture), picture.mode, stated)
    if image is picture and stated.transparent and picture.mode == "L":
        # Pillow scales samples of 2 and 4 bits to 8, but not the transparent value.
        picture.info["transparency"] = stated.transparent[0] * 255 // ((1 << stated.bits) - 1)
    if picture.format == "PSD" and picture.mode == "1":  # here 1 is black
        image = ImageOps.invert(picture.convert("L"))
    if picture.format == "TGA" and image.mode == "RGBA" and _tga_has_no_alpha(file):
        image = image.convert("RGB")
    image = _on_white(image)
    return image if image.mode == mode else image.convert(mode)


def _mend_palette(picture: ImageFile.ImageFile) -> None:
    """Read a TIFF's palette as 8 bits instead of 16 if all values fit, as libtiff does."""
    colours = tiff_tags(picture).get(320)
    if picture.mode in ("P", "PA") and isinstance(colours, tuple) and max(colours) < 256:
        picture.palette = ImagePalette.raw("RGB;L", bytes(colours))


def _grey_samples(picture: ImageFile.ImageFile) -> Samples:
    """Return uint16 [H, W] of a picture that Pillow loads as one channel of 16 or 32 bits."""
    # Pillow loads 16 bits as mode I;16, but from PPM as mode I, which has 32 bits.
    if picture.mode == "F" or (picture.mode == "I" and picture.format != "PPM"):
        raise BadImage(f"pixels of 32 bits, so black and white are unknown; {WAY_OUT}")
    if picture.format not in ("PNG", "PPM", "TIFF", "JPEG2000", "IM"):
        raise BadImage(f"16 bits per pixel, with unknown black and white; {WAY_OUT}")
    return np.asarray(picture).clip(0, 0xFFFF).astype(np.uint16)


def _num_colours(mode: str) -> int:
    return len(mode.removesuffix("A"))


def _top(image: Image.Image) -> int:
    """Return the largest sample of the colour channels; alpha is ignored."""
    extrema: Any = image.getextrema()
    pairs = extrema if isinstance(extrema[0], tuple) else (extrema,)
    return int(max(high for _, high in pairs[: _num_colours(image.mode)]))


def _all_16_bits(
    picture: ImageFile.ImageFile, reopen: Callable[[], ImageFile.ImageFile]
) -> Samples | None:
    """Return all 16 bits per channel, uint16 [H, W, C]; Pillow itself keeps only the upper 8.

    To get the lower 8 bits, the picture is read again with the opposite byte order. Returns None
    if that is not possible.
    """
    lower = reopen()
    tile = lower.tile[0]
    args = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
    if tiff_tags(lower).get(284) == 2:  # separate channels: Pillow chooses the byte order
        return None
    if args[0] == "LA;16B":
        # Grey and alpha have two bytes each; read them as four channels of one byte.
        halves = np.asarray(_loaded_as(lower, "RGBA")).astype(np.uint16)
        grey, alpha = (halves[..., i] << 8 | halves[..., i + 1] for i in (0, 2))
        return np.stack([grey, grey, grey, alpha], axis=-1)
    if tile[0] == "ppm" and args == ("RGB", 65535):
        # Pillow rounds to 8 bits.
        picture = _loaded_as(reopen(), "RGB;16B", "raw")
        lower = _loaded_as(lower, "RGB;16L", "raw")
    elif match := re.fullmatch("(RGBA?|RGBX|CMYK);16([BLN])", str(args[0])):
        order = sys.byteorder[0].upper() if match[2] == "N" else match[2]
        lower = _loaded_as(lower, f"{match[1]};16{'L' if order == 'B' else 'B'}")
    else:
        return None
    samples = np.asarray(lower).astype(np.uint16)
    for top, bottom in _bands(picture.size):
        upper = np.asarray(picture.crop((0, top, picture.width, bottom)))
        samples[top:bottom] |= upper.astype(np.uint16) << 8
    return samples


def _loaded_as(
    picture: ImageFile.ImageFile, rawmode: str, decoder: str | None = None
) -> ImageFile.ImageFile:
    """Load an opened picture, reading its bytes in another of Pillow's raw modes."""
    tiles = []
    for tile in picture.tile:
        # The arguments after the mode depend on the decoder; "raw" takes the stride and the order.
        others = tile[3][1:] if isinstance(tile[3], tuple) else None
        args: Any = rawmode if others is None else (rawmode, *others)
        if decoder == "raw":
            args = (rawmode, 0, 1)
        tiles.append(ImageFile._Tile(decoder or tile[0], tile[1], tile[2], args))
    picture.tile = tiles
    picture.load()
    return picture


def _bands(size: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Yield the first row and the end row of bands, which need less memory than all rows."""
    width, height = size
    num_rows = max(1, (1 << 20) // width)
    for top in range(0, height, num_rows):
        yield top, min(top + num_rows, height)


def _from_samples(samples: Samples, mode: str, stated: SampleFormat) -> Image.Image:
    """Return a picture of 8 bits per channel, with alpha if the file states a transparent colour.

    Args:
        samples: [H, W, C] or, if there is one channel, [H, W].
        mode: L, LA, RGB, RGBA or CMYK.
        stated: what the file states about these samples.

    Raises:
        BadImage: the range of the samples is unknown, and the picture would become nearly black
            (nearly white if 0 is white).
    """
    samples = samples.reshape(*samples.shape[:2], -1)
    bits = _bits_of(samples[..., : _num_colours(mode)], stated)
    pixels = _scaled(samples, bits)
    if stated.white_is_zero:
        pixels = 255 - pixels
    size = samples.shape[1::-1]
    image = Image.frombytes(mode, size, pixels.tobytes())
    if stated.transparent:
        is_clear = (samples == np.asarray(stated.transparent, samples.dtype)).all(axis=-1)
        image.putalpha(Image.fromarray(np.where(is_clear, 0, 255).astype(np.uint8)))
    return image


def _bits_of(colours: Samples, stated: SampleFormat) -> int:
    """Return the bit depth of the samples, given what the file states and their values."""
    top = int(colours.max())
    if stated.used:
        is_low = top < 1 << stated.used and not _is_upper(colours, stated.used, stated.bits)
        return stated.used if is_low else stated.bits
    if stated.is_full:
        return stated.bits if top < 1 << stated.bits else 16
    # A dark 8-bit picture that was scaled to 16 bits by 256 or 257 is accepted.
    if colours.min() < top < _DARK_16 and not _is_upper(colours, 8, 16):
        raise BadImage(_too_dark(top))
    return stated.bits


def _is_upper(samples: Samples, used: int, bits: int) -> bool:
    """Return whether samples of `used` bits were expanded to `bits`, by a shift or a factor."""
    values = np.arange(1 << used)
    step = ((1 << bits) - 1) / ((1 << used) - 1)
    is_upper = np.zeros(1 << bits, bool)
    is_upper[np.rint(values * step).astype(int)] = True
    is_upper[values << bits - used] = True
    height, width = samples.shape[:2]
    bands = _bands((width, height))
    return all(is_upper[samples[top:bottom]].all() for top, bottom in bands)


def _too_dark(top: int) -> str:
    return (
        f"16 bits per channel, but only values below {_power_above(top)} are used, so the picture "
        f"would be nearly black; {WAY_OUT}, or scale it to 0-65535"
    )


def _power_above(top: int) -> int:
    return 1 << int(top).bit_length()


def _scaled(samples: Samples, bits: int) -> NDArray[np.uint8]:
    """Convert samples of `bits` bits to 8 bits."""
    if bits == 16:
        return (samples >> 8).astype(np.uint8)
    if bits >= 8:
        return (samples >> (bits - 8)).clip(max=255).astype(np.uint8)
    white = (1 << bits) - 1
    return ((samples.astype(np.uint16) * 255 + white // 2) // white).clip(0, 255).astype(np.uint8)


def _tga_has_no_alpha(file: IO[bytes]) -> bool:
    """Return whether the header of a TGA file states that pixels have no alpha bits."""
    file.seek(17)
    return not file.read(1)[0] & 0x0F


def _on_white(image: Image.Image) -> Image.Image:
    """Return the picture on a white background, without transparency.

    Raises:
        BadImage: the result would be all white, although the picture has content.
    """
    if image.mode == "LAB":
        return image.convert("RGB")
    if not image.has_transparency_data:
        return image
    if image.mode in ("La", "RGBa"):  # premultiplied alpha
        image = image.convert({"La": "LA", "RGBa": "RGBA"}[image.mode])
    if image.mode != "RGBA":
        image = image.convert("RGBA")
    ground = Image.new("RGB", image.size, "white")
    for top, bottom in _bands(image.size):
        band = image.crop((0, top, image.width, bottom))
        ground.paste(band, (0, top), band)
    extrema: Any = image.getextrema()
    is_white = all(low > 255 - _DARK_8 for low, _ in ground.getextrema())  # type: ignore[misc]
    if is_white and any(high - low >= _DARK_8 for low, high in extrema):
        what = (
            "transparent everywhere" if extrema[3][1] < _DARK_8 else "white where not transparent"
        )
        raise BadImage(f"{what}, so it would be all white; save it without transparency")
    return ground
