"""Reads what a picture file states about its samples: bit depth, white and transparency."""

import struct
from dataclasses import dataclass
from typing import IO, Any

from PIL import ImageFile, TiffImagePlugin

WAY_OUT = "save it with 8 bits per channel"

# Grey TIFF formats that Pillow can unpack but does not list. If 0 is white (second field 0), the
# samples are not inverted here; Pillow does the same for little-endian 16 bits.
for _order, _white, _bits, _mode in (
    (b"MM", 0, 16, ("I;16B", "I;16B")),
    (b"MM", 1, 12, ("I;16", "I;12")),
    (b"MM", 0, 12, ("I;16", "I;12")),
    (b"II", 0, 12, ("I;16", "I;12")),
):
    TiffImagePlugin.OPEN_INFO.setdefault((_order, _white, (1,), 1, (_bits,), ()), _mode)


class BadImage(Exception):
    """The file is not a picture, or cannot be used; the message says why."""


@dataclass(frozen=True)
class SampleFormat:
    """What a file states about its samples. A pixel has one sample for each channel.

    Attributes:
        bits: the largest possible sample is 2^bits - 1.
        used: the number of significant bits; by the specification, these are the upper bits.
        is_full: whether samples are known to use the whole range.
        white_is_zero: whether 0 is white instead of black.
        transparent: the samples of the one transparent colour.
    """

    bits: int = 8
    used: int | None = None
    is_full: bool = True
    white_is_zero: bool = False
    transparent: tuple[int, ...] | None = None


def tiff_tags(picture: ImageFile.ImageFile) -> dict[int, Any]:
    """Return the tags of a TIFF picture, by number; none of another picture."""
    return dict(getattr(picture, "tag_v2", {}))


_MAX_BOX = 1 << 40  # bytes; no file has so many


def sample_format(picture: ImageFile.ImageFile, file: IO[bytes]) -> SampleFormat:
    """Return what the file states about the samples of an opened, not yet loaded picture.

    Raises:
        BadImage: Pillow would misread the samples, or the picture is only a preview.
        Exception: of nearly any type, if the file is damaged.
    """
    _refuse_small_version(picture)
    position = file.tell()
    try:
        if picture.format == "PNG":
            return _png(file)
        if picture.format == "JPEG2000":
            return _jpeg_2000(file)
    finally:
        file.seek(position)
    if tags := tiff_tags(picture):
        return _tiff(tags)
    coding = [str(part) for tile in picture.tile for part in (tile[0], tile[3])]
    if picture.format == "PPM":
        # Pillow scales to 8 or 16 bits by the largest value that the file states, such as 4095.
        is_full = not any("65535" in part or ";16" in part for part in coding)
        return SampleFormat(bits=8 if is_full and picture.mode != "I" else 16, is_full=is_full)
    is_16 = "SGI16" in coding or picture.mode.startswith("I;16")
    return SampleFormat(bits=16, is_full=False) if is_16 else SampleFormat()


def _refuse_small_version(picture: ImageFile.ImageFile) -> None:
    """Raise if a TIFF file's first picture is only a preview, as in raw camera files."""
    tags = tiff_tags(picture)
    is_small = isinstance(kind := tags.get(254), int) and kind & 1
    if 0xC612 in tags or (is_small and (330 in tags or getattr(picture, "is_animated", False))):
        raise BadImage("a camera's raw file; convert it to JPEG, PNG or TIFF")


def _png(file: IO[bytes]) -> SampleFormat:
    """Read the chunks IHDR, sBIT and tRNS, which precede the pixels."""
    chunks: dict[bytes, bytes] = {}
    file.seek(8)
    while len(start := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", start)
        if kind in (b"IDAT", b"IEND"):
            break
        content = file.read(min(length, 1024))
        chunks.setdefault(kind, content)
        file.seek(length - len(content) + 4, 1)
    bits, colour_type = chunks[b"IHDR"][8:10]
    if colour_type == 3:  # a palette: its colours have 8 bits, and Pillow applies its tRNS
        return SampleFormat()
    colours = 3 if colour_type & 2 else 1
    used = max(chunks.get(b"sBIT", b"")[:colours], default=0)
    clear = chunks.get(b"tRNS", b"")[: 2 * colours]
    transparent = None
    if len(clear) == 2 * colours and not colour_type & 4:
        transparent = tuple(
            value & (1 << bits) - 1 for value in struct.unpack(f">{colours}H", clear)
        )
    return SampleFormat(
        bits=bits,
        used=used if 0 < used < bits else None,
        is_full=bits < 16,
        transparent=transparent,
    )


def _jpeg_2000(file: IO[bytes]) -> SampleFormat:
    """Read the bits of each component.

    Pillow converts the samples to unsigned and shifts them to 8 or 16 bits.
    """
    file.seek(0)
    head = file.read(12)
    if head[4:8] == b"jP  ":  # a file of boxes; one of them holds the codestream
        while True:
            length, kind = struct.unpack_from(">I4s", head)
            used, least = 12, 8
            if length == 1:  # it follows, in 64 bits
                length = int.from_bytes(head[8:12] + file.read(4), "big")
                used = least = 16
            if kind == b"jp2c":
                file.seek(least - used, 1)
                break
            if not least <= length < _MAX_BOX:
                raise BadImage("JPEG 2000 without pixels")
            file.seek(length - used, 1)
            head = file.read(12)
    else:
        file.seek(0)
    # The markers SOC and SIZ. In SIZ, 34 bytes precede the components, which have 3 bytes each.
    head = file.read(1 << 16)
    (num_components,) = struct.unpack_from(">H", head, 40)
    bits = {(byte & 0x7F) + 1 for byte in head[42 : 42 + 3 * num_components : 3]}
    if min(bits) < 8 or (max(bits) > 8 and num_components > 1):
        # Pillow maps 4 bits to 0-240. It rounds 65535 up to 256, which overflows to 0 (black).
        named = " and ".join(map(str, sorted(bits)))
        raise BadImage(f"JPEG 2000 with {named} bits and {num_components} channels; {WAY_OUT}")
    return SampleFormat(bits=16, is_full=max(bits) < 16) if max(bits) > 8 else SampleFormat()


def _tiff(tags: dict[int, Any]) -> SampleFormat:
    """Read BitsPerSample, PhotometricInterpretation, MaxSampleValue and SampleFormat."""

    def first(tag: int, default: int) -> int:
        value = tags.get(tag, default)
        value = value[0] if isinstance(value, tuple) and value else value
        return value if isinstance(value, int) else default

    bits = first(258, 1)
    if first(339, 1) == 2:
        raise BadImage(f"signed pixels of {bits} bits, so black is unknown; {WAY_OUT}")
    if first(284, 1) == 2 and bits == 16 and first(259, 1) == 1 and first(277, 1) > 1:
        # Pillow reads each byte as a sample.
        raise BadImage(f"uncompressed 16 bits per channel in separate planes; {WAY_OUT}")
    if first(262, 0) == 6 and first(259, 1) == 1 and tags.get(530, (2, 2)) != (1, 1):
        raise BadImage("uncompressed YCbCr with subsampled colour; save it as RGB")
    # 4095 means 12 bits. A value such as 3217 is only the largest sample of this picture.
    largest = first(281, 0) + 1
    is_named = bits == 16 and 1 << 8 < largest < 1 << 16 and largest & (largest - 1) == 0
    return SampleFormat(
        bits=largest.bit_length() - 1 if is_named else bits,
        is_full=bits < 16 or is_named,
        white_is_zero=first(262, 0) == 0,
    )
