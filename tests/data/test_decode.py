"""One picture to pixels: formats, modes and depths, what files say of their pixels, damage."""

import gzip
import io
import itertools
import struct
import zlib

import numpy as np
import PIL
import pytest
from PIL import Image, PngImagePlugin
from raw_pictures import chunk, directory, exif, jpeg_segment, png, tiff

from src.data.decode import MAX_SIDE, BadImage, decode, is_visible


def picture(tmp_path, image, name="x.png", **options):
    image.save(tmp_path / name, **options)
    return tmp_path / name


def read(path, size=4, mode="RGB", resize="scale"):
    return decode(path, size=size, mode=mode, resize=resize)


def modes():
    grey = Image.new("L", (4, 4), 120)
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 120, 60, 30])
    return [
        (grey, "png", (120, 120, 120)),
        (Image.new("1", (4, 4), 1), "png", (255, 255, 255)),
        (palette, "png", (120, 60, 30)),
        (palette, "gif", (120, 60, 30)),
        (Image.new("RGB", (4, 4), (120, 60, 30)), "bmp", (120, 60, 30)),
        (Image.new("RGB", (4, 4), (120, 60, 30)), "jpg", (120, 60, 30)),
        (Image.new("RGB", (4, 4), (120, 60, 30)), "webp", (120, 60, 30)),
        (Image.new("CMYK", (4, 4), (0, 127, 191, 127)), "tif", (128, 64, 32)),
        (Image.new("RGBA", (4, 4), (120, 60, 30, 255)), "png", (120, 60, 30)),
        (Image.new("RGBA", (4, 4), (120, 60, 30, 0)), "png", (255, 255, 255)),
        (Image.new("RGBA", (4, 4), (55, 55, 55, 128)), "png", (155, 155, 155)),
        (Image.new("LA", (4, 4), (120, 0)), "png", (255, 255, 255)),
        (Image.fromarray(np.full((4, 4), 120 * 257, np.uint16)), "png", (120, 120, 120)),
        (Image.fromarray(np.full((4, 4), 120 * 257, np.uint16)), "tif", (120, 120, 120)),
        (Image.fromarray(np.full((4, 4), 120 * 257, np.uint16)), "pgm", (120, 120, 120)),
    ]


@pytest.mark.parametrize(
    ("image", "suffix", "expected"), modes(), ids=[f"{i.mode} {s}" for i, s, _ in modes()]
)
def test_modes_of_pictures(tmp_path, image, suffix, expected):
    path = picture(tmp_path, image, f"x.{suffix}")
    pixels = read(path)
    assert pixels.shape == (4, 4, 3) and pixels.dtype == np.uint8
    np.testing.assert_allclose(pixels.reshape(-1, 3), [expected] * 16, atol=3)
    grey = read(path, mode="L")
    assert grey.shape == (4, 4, 1)
    np.testing.assert_allclose(grey, np.dot(expected, [0.299, 0.587, 0.114]), atol=3)


def test_transparent_colour_of_a_palette_becomes_white(tmp_path):
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 120, 60, 30])
    assert (read(picture(tmp_path, image, transparency=1)) == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, orientation):
    upright = np.zeros((8, 8), np.uint8)
    upright[:4, :4] = 255  # white where it belongs: at the top left
    transforms = {
        1: lambda x: x,
        2: np.fliplr,
        3: lambda x: np.rot90(x, 2),
        4: np.flipud,
        5: np.transpose,
        6: lambda x: np.rot90(x, 1),
        7: lambda x: np.rot90(x, 2).T,
        8: lambda x: np.rot90(x, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(transforms[orientation](upright)))
    path = picture(tmp_path, stored, exif=exif)
    np.testing.assert_array_equal(read(path, size=8, mode="L")[:, :, 0], upright)


def test_the_first_picture_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    path = picture(tmp_path, frames[0], "x.gif", save_all=True, append_images=frames[1:])
    assert tuple(read(path)[0, 0]) == (255, 0, 0)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
def test_scale_and_pad(tmp_path, mode):
    path = picture(tmp_path, Image.new("L", (8, 4), 255).convert(mode))
    assert (read(path, size=4, resize="scale") == 255).all()
    padded = read(path, size=4, resize="pad")[:, :, 0]
    assert padded.tolist() == [[0] * 4, [255] * 4, [255] * 4, [0] * 4]
    tall = read(picture(tmp_path, Image.new("L", (1, 500), 255)), size=4, resize="pad")[:, :, 0]
    assert tall.tolist() == [[0, 255, 0, 0]] * 4


def test_large_jpegs_are_reduced_well(tmp_path):
    ramp = np.tile(np.linspace(0, 255, 1600).astype(np.uint8), (1200, 1))
    small = read(picture(tmp_path, Image.fromarray(ramp), "x.jpg"), size=16, mode="L")[:, :, 0]
    np.testing.assert_allclose(small, np.tile(np.linspace(8, 247, 16), (16, 1)), atol=3)


def png_of_size(width, height):
    """A valid header of a PNG of any size, without pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def encoded(image_format, **options):
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file, image_format, **options)
    return file.getvalue()


BAD_CONTENTS = {
    "empty": (b"", "an empty file"),
    "text": (b"not a picture at all", "not a picture"),
    "python": (b"\x80\x04\x95\x10cos\nsystem\n.", "not a picture"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n", "a PostScript file"),
    "wide": (png_of_size(MAX_SIDE + 1, 1), "65536 x 1 pixels; accepted: at most 65535 per side"),
    "high": (png_of_size(1, 89_000_000), "1 x 89000000 pixels; accepted: at most 65535 per side"),
    "truncated png": (encoded("PNG")[:2000], "truncated"),
    "truncated jpeg": (encoded("JPEG")[:700], "truncated"),
    "truncated gif": (encoded("GIF")[:900], "."),
    "truncated webp": (encoded("WEBP")[:300], "."),
    "truncated tiff": (encoded("TIFF")[:200], "."),
    "damaged png": (encoded("PNG")[:300] + b"\0" * 40 + encoded("PNG")[340:], "."),
    "large": (png_of_size(10_000, 10_000), "10000 x 10000 pixels; accepted: at most 89478485"),
    "bomb": (
        png_of_size(2**31 - 1, 2**31 - 1),
        "more than 178956970 pixels; accepted: at most 89478485",
    ),
    "no pixels": (png_of_size(0, 5), "."),
    "no data": (png_of_size(5, 5), "."),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", BAD_CONTENTS)
def test_bad_contents(tmp_path, name):
    content, reason = BAD_CONTENTS[name]
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(BadImage, match=reason) as caught:
        read(tmp_path / "x.png")
    assert str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("image", [Image.new("F", (4, 4), 0.5), Image.new("I", (4, 4), 7)])
def test_pixels_of_32_bits_are_refused(tmp_path, image):
    with pytest.raises(BadImage, match="pixels of 32 bits"):
        read(picture(tmp_path, image, "x.tif"))


def test_a_bug_of_pillow_is_a_bad_picture(tmp_path, monkeypatch):
    def fail(*args, **options):
        raise MemoryError

    monkeypatch.setattr(Image.Image, "resize", fail)
    with pytest.raises(BadImage, match="MemoryError"):
        read(picture(tmp_path, Image.new("L", (4, 4))))


# What a file says of its pixels

UP = np.round(np.linspace(0, 255, 8))
DOWN = 255 - UP


def ramp(largest):
    """[8, 8], from 0 at the left to `largest` at the right."""
    return np.tile(np.round(np.linspace(0, largest, 8)).astype(np.int64), (8, 1))


def channels(*planes):
    return np.stack([plane + np.zeros((8, 8), np.int64) for plane in planes], axis=-1)


def row(tmp_path, content, mode="L"):
    """The pixels of one row of the picture in a file of this content."""
    (tmp_path / "x").write_bytes(content)
    return read(tmp_path / "x", size=8, mode=mode)[4].squeeze().astype(int)


def reason(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(BadImage) as caught:
        read(tmp_path / "x", size=8)
    return str(caught.value)


def grey_levels(bits):
    """The ramp as it comes out when it was stored with so many bits."""
    largest = 2**bits - 1
    return np.round(UP / 255 * largest) / largest * 255


@pytest.mark.parametrize("is_zipped", [False, True], ids=["raw", "zip"])
@pytest.mark.parametrize("photometric", [0, 1], ids=["0 is white", "0 is black"])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 12, 16])
@pytest.mark.parametrize("order", ["<", ">"])
def test_grey_tiff(tmp_path, order, bits, photometric, is_zipped):
    expected = grey_levels(bits) if photometric else 255 - grey_levels(bits)
    content = tiff(ramp(2**bits - 1), bits, photometric, order, is_zipped=is_zipped)
    np.testing.assert_allclose(row(tmp_path, content), expected, atol=1)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(
    ("extra_samples", "alpha", "expected"),
    [(0, 0, UP), (1, 128, 127.5 + UP / 2), (2, 128, 127.5 + UP / 2)],
    ids=["ignored", "multiplied", "apart"],
)
def test_the_fourth_channel_of_a_tiff(tmp_path, order, bits, extra_samples, alpha, expected):
    scale = (2**bits - 1) // 255
    colour = ramp(128 if extra_samples == 1 else 255) * scale
    pixels = channels(colour, colour, colour, alpha * scale)
    content = tiff(pixels, bits, 2, order, {338: (3, [extra_samples])})
    np.testing.assert_allclose(row(tmp_path, content), expected, atol=2)


def test_grey_with_alpha_multiplied_in(tmp_path):
    content = tiff(channels(ramp(128), 128), 8, 1, tags={338: (3, [1])})
    if int(PIL.__version__.split(".")[0]) < 13:
        assert "a TIFF picture of an unsupported kind" in reason(tmp_path, content)
        return
    np.testing.assert_allclose(row(tmp_path, content), 127.5 + UP / 2, atol=2)


def test_lab(tmp_path):
    """L* of 0 to 100 is lightness: 50 is a luminance of 18 %, which is sRGB's 119."""
    pixels = channels(ramp(255), 0, 0)
    pixels[:, 3] = (128, 0, 0)
    pixels[:, 4] = (255 * 0.533, 80, 67)  # sRGB's red
    assert abs(row(tmp_path, tiff(pixels, 8, 8))[3] - 119) <= 2
    np.testing.assert_allclose(row(tmp_path, tiff(pixels, 8, 8), "RGB")[4], [255, 0, 0], atol=12)


def test_cmyk_of_16_bits(tmp_path):
    content = tiff(channels(0, 0, 0, ramp(65535)), 16, 5)
    np.testing.assert_allclose(row(tmp_path, content), DOWN, atol=1)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("column", [0, 3, 7])
def test_the_transparent_grey_of_a_png(tmp_path, bits, column):
    pixels = ramp(2**bits - 1)
    clear = pixels[0, column]
    if bits == 1:
        pixels[0] = 1 - pixels[0]  # or else nothing but white is left
    content = png(pixels, bits, (b"tRNS", struct.pack(">H", clear)))
    expected = np.where(pixels[4] == clear, 255, grey_levels(bits))
    if bits == 1 and clear == 0:
        assert "all white" in reason(tmp_path, content)
    else:
        np.testing.assert_allclose(row(tmp_path, content), expected, atol=1)


@pytest.mark.parametrize("bits", [8, 16])
def test_the_transparent_colour_of_a_png(tmp_path, bits):
    pixels = channels(*[ramp(2**bits - 1)] * 3)
    clear = pixels[0, 3].copy()
    pixels[:, 4] = clear + (0, 0, 1)  # the next one, of the same upper 8 bits if there are 16
    content = png(pixels, bits, (b"tRNS", struct.pack(">HHH", *clear)))
    expected = [*UP[:3], 255, UP[3], *UP[5:]]
    np.testing.assert_allclose(row(tmp_path, content), expected, atol=1)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_palette_with_several_alphas(tmp_path, bits):
    largest = 2**bits - 1
    colours = b"".join(bytes([255 - i * 255 // largest] * 3) for i in range(largest + 1))
    alphas = bytes([255] * largest + [128])
    parts = (b"PLTE", colours), (b"tRNS", alphas)
    expected = 255 - grey_levels(bits)
    expected[expected == 0] = 127
    content = png(ramp(largest), bits, *parts, colour_type=3)
    np.testing.assert_allclose(row(tmp_path, content), expected, atol=1)


def test_grey_and_alpha_of_16_bits(tmp_path):
    expected = 127.5 + UP / 2
    for num_colours in (1, 3):
        pixels = channels(*[ramp(65535)] * num_colours, 32768)
        np.testing.assert_allclose(row(tmp_path, png(pixels, 16)), expected, atol=1)


@pytest.mark.parametrize("magic", ["P2", "P3", "P5", "P6"])
@pytest.mark.parametrize("largest", [1, 7, 100, 255, 1000, 1023, 4095, 65535])
def test_the_largest_value_of_a_ppm(tmp_path, magic, largest):
    pixels = ramp(largest)
    expected = pixels[0] / largest * 255
    if magic in ("P3", "P6"):
        pixels = channels(*[pixels] * 3)
    dtype = ">u1" if largest < 256 else ">u2"
    is_text = magic in ("P2", "P3")
    data = (
        " ".join(map(str, pixels.ravel())).encode() if is_text else pixels.astype(dtype).tobytes()
    )
    content = f"{magic}\n8 8\n{largest}\n".encode() + data
    np.testing.assert_allclose(row(tmp_path, content), expected, atol=1)


@pytest.mark.parametrize("num_channels", [1, 2, 3, 4])
@pytest.mark.parametrize("container", [8, 16])
@pytest.mark.parametrize("used", [5, 8, 10, 12, 14])
def test_significant_bits_of_a_png(tmp_path, num_channels, container, used):
    """By the specification the upper bits; written without a shift, the lower ones."""
    if used >= container:
        return
    low = ramp(2**used - 1)
    for pixels in (low << container - used, low):
        alpha = [] if num_channels in (1, 3) else [2**container - 1]
        planes = [pixels] * (num_channels - len(alpha)) + alpha
        image = planes[0] if num_channels == 1 else channels(*planes)
        content = png(image, container, (b"sBIT", bytes([used] * num_channels)))
        np.testing.assert_allclose(row(tmp_path, content), UP, atol=9 if used == 5 else 2)


def test_a_dark_picture_whose_upper_bits_are_used(tmp_path):
    dark = ramp(15) * 16 << 4  # 12 bits, up to 240 of 4095
    content = png(dark, 16, (b"sBIT", b"\x0c"))
    np.testing.assert_array_equal(row(tmp_path, content), dark[0] >> 8)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("photometric", [0, 1])
def test_the_largest_sample_of_a_tiff(tmp_path, order, photometric):
    content = tiff(ramp(4095), 16, photometric, order, {281: (3, [4095])})
    np.testing.assert_allclose(row(tmp_path, content), UP if photometric else DOWN, atol=1)
    # Merely the largest value of a picture that uses all bits, as the specification has it
    content = tiff(ramp(50000), 16, 1, order, {281: (3, [50000])})
    np.testing.assert_allclose(row(tmp_path, content), UP * 50000 / 65535, atol=1)


def deep_pictures(largest):
    """Files of 16 bits a channel that say nothing of using only the lower ones."""
    grey, full = ramp(largest), 65535
    colour = channels(grey, grey, grey)
    yield "png L", png(grey, 16)
    yield "png LA", png(channels(grey, full), 16)
    yield "png RGB", png(colour, 16)
    yield "png RGBA", png(channels(grey, grey, grey, full), 16)
    yield "pgm", b"P5 8 8 65535\n" + grey.astype(">u2").tobytes()
    yield "ppm", b"P6 8 8 65535\n" + colour.astype(">u2").tobytes()
    if largest:  # of SGI the lower 8 bits are out of reach, so that black is no better than dark
        header = struct.pack(">HBBHHHHII", 474, 0, 2, 3, 8, 8, 3, 0, 255).ljust(512, b"\0")
        yield "sgi", header + np.stack([grey] * 3).astype(">u2").tobytes()
    for order, is_zipped in itertools.product("<>", (False, True)):
        name = f"tiff {order}{is_zipped}"
        yield f"{name} L", tiff(grey, 16, 1, order, is_zipped=is_zipped)
        yield f"{name} white", tiff(grey, 16, 0, order, is_zipped=is_zipped)
        yield f"{name} RGB", tiff(colour, 16, 2, order, is_zipped=is_zipped)
        yield f"{name} CMYK", tiff(channels(0, 0, 0, grey), 16, 5, order, is_zipped=is_zipped)
        # Strips of two rows, and a picture whose lower half alone is not black
        strips = {278: (4, [2]), 273: (4, [0] * 4), 279: (4, [96] * 4)}
        if not is_zipped:
            half = np.where(np.arange(8)[:, None, None] < 4, 0, colour)
            yield f"{name} strips", tiff(half, 16, 2, order, strips)


def test_bits_that_are_not_used_are_named(tmp_path):
    for bits in (6, 8, 10, 12):
        for name, content in deep_pictures(2**bits - 1):
            text = reason(tmp_path, content)
            known = max(256, 2**bits) if name == "sgi" else 2**bits
            assert f"only values below {known} are used" in text, name
            assert "nearly black" in text and "save it with 8 bits" in text


def test_8_bits_put_into_12_are_named(tmp_path):
    assert "below 4096" in reason(tmp_path, png(ramp(255) << 4, 16))


def test_pictures_that_are_black_or_dark_are_good(tmp_path):
    for name, content in deep_pictures(0):
        assert len(set(row(tmp_path, content))) == 1, name
    for factor in (256, 257):  # 8 bits made 16
        np.testing.assert_array_equal(row(tmp_path, png(ramp(7) * factor, 16)), ramp(7)[0])
    np.testing.assert_array_equal(row(tmp_path, png(ramp(3), 8)), ramp(3)[0])
    assert (row(tmp_path, png(ramp(0) + 255, 8)) == 255).all()
    assert (row(tmp_path, png(channels(255, 255, 255, 255), 8)) == 255).all()
    assert (row(tmp_path, png(channels(0, 0, 0, 0), 8)) == 255).all()  # empty


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (channels(ramp(255), 0), "transparent everywhere"),
        (channels(ramp(255), ramp(255), 0, 0), "transparent everywhere"),
        (channels(ramp(255), 1), "transparent everywhere"),
        (channels(255, ramp(255)), "white where not transparent"),
    ],
    ids=["grey", "colour", "alpha of 0 and 1", "a white drawing"],
)
def test_what_would_be_all_white_is_named(tmp_path, pixels, expected):
    assert reason(tmp_path, png(pixels, 8)).startswith(f"{expected}, so it would be all white")
    image = Image.fromarray(pixels.astype(np.uint8)).convert("RGBA")
    path = picture(tmp_path, image, "x.webp", lossless=True, exact=True)
    assert expected in reason(tmp_path, path.read_bytes())


@pytest.mark.parametrize(("attribute_bits", "alpha"), [(0, 0), (8, 255)])
def test_tga_says_whether_it_has_alpha(tmp_path, attribute_bits, alpha):
    header = struct.pack("<BBBHHBHHHHBB", 0, 0, 2, 0, 0, 0, 0, 0, 8, 8, 32, 0x20 | attribute_bits)
    pixels = channels(*[ramp(255)] * 3, alpha).astype(np.uint8).tobytes()
    np.testing.assert_array_equal(row(tmp_path, header + pixels), UP)


@pytest.mark.parametrize("factor", [1, 256, 257])
def test_the_palette_of_a_tiff_has_16_bits_or_8(tmp_path, factor):
    """By the specification 16; some programs write 8, which would be black."""
    colours = [level * factor for level in range(255, -1, -1)] * 3
    content = tiff(ramp(255), 8, 3, tags={320: (3, colours)})
    np.testing.assert_array_equal(row(tmp_path, content), DOWN)


def test_1_is_black_in_photoshop(tmp_path):
    header = b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 1, 8, 8, 1, 0)
    content = header + bytes(12) + b"\0\0" + b"\x0f" * 8
    np.testing.assert_array_equal(row(tmp_path, content), [255] * 4 + [0] * 4)


def test_jpeg_2000(tmp_path):
    deep = Image.fromarray((ramp(65535)).astype(np.uint16))
    path = picture(tmp_path, deep, "x.jp2")
    np.testing.assert_allclose(read(path, size=8, mode="L")[4, :, 0], UP, atol=1)
    path = picture(tmp_path, Image.fromarray(ramp(4095).astype(np.uint16)), "x.jp2")
    assert "only values below 4096" in reason(tmp_path, path.read_bytes())
    content = picture(tmp_path, Image.new("RGB", (8, 8), "white"), "x.jp2").read_bytes()
    start = content.index(b"\xff\x4f\xff\x51")
    boxes = content.index(b"jp2c") - 4
    for header in (struct.pack(">I4s", 99_008, b"xml "), struct.pack(">I4sQ", 1, b"xml ", 99_016)):
        with_xml = content[:boxes] + header + bytes(99_000) + content[boxes:]
        assert (row(tmp_path, with_xml) == 255).all()
    with_empty = content[:boxes] + struct.pack(">I4s", 8, b"free") + content[boxes:]
    assert (row(tmp_path, with_empty) == 255).all()
    pixels = content[boxes + 8 :]
    of_64_bits = struct.pack(">I4sQ", 1, b"jp2c", 16 + len(pixels))
    assert (row(tmp_path, content[:boxes] + of_64_bits + pixels) == 255).all()
    # A box that ends where it begins, before, or nowhere: Pillow opens them all.
    for length in (0, 15, 1 << 32, 1 << 62, (1 << 64) - 1):
        box = struct.pack(">I4sQ", 1, b"free", length)
        reason(tmp_path, content[:boxes] + box + content[boxes:])
    for length in (0, 2, 7):
        box = struct.pack(">I4s", length, b"free")
        reason(tmp_path, content[:boxes] + box + content[boxes:])
    for bits in (4, 12):  # the bits of the first component, in SIZ
        changed = content[: start + 42] + bytes([bits - 1]) + content[start + 43 :]
        assert f"JPEG 2000 with {min(bits, 8)} and {max(bits, 8)} bits" in reason(tmp_path, changed)


UNKNOWN = {
    "float": (tiff(ramp(1), 32, 1, tags={339: (3, [3])}), "pixels of 32 bits"),
    "32 bits": (tiff(ramp(99), 32, 1), "pixels of 32 bits"),
    "8 bits with a sign": (tiff(ramp(99), 8, 1, tags={339: (3, [2])}), "signed pixels of 8 bits"),
    "16 bits with a sign": (
        tiff(ramp(99), 16, 1, tags={339: (3, [2])}),
        "signed pixels of 16 bits",
    ),
    "10 bits": (tiff(ramp(1023), 10, 1), r"a TIFF picture .*BitsPerSample 10, Photometric"),
    "half floats": (tiff(ramp(1), 16, 1, tags={339: (3, [3])}), "SampleFormat 3"),
    "grey and alpha": (tiff(channels(ramp(9), 9), 8, 0, tags={338: (3, [2])}), "8, 8"),
    "planes of 16 bits": (
        tiff(channels(*[ramp(65535)] * 3), 16, 2, tags={284: (3, [2])}),
        "separate planes",
    ),
    "YCbCr of half the colour": (tiff(channels(*[ramp(255)] * 3), 8, 6), "subsampled colour"),
    "DNG": (tiff(ramp(255), 8, 1, tags={0xC612: (1, [1, 4, 0, 0])}), "a camera's raw file"),
    "NEF": (tiff(ramp(255), 8, 1, tags={254: (4, [1]), 330: (4, [8])}), "a camera's raw file"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_pixels_whose_meaning_is_unknown_are_named(tmp_path, name):
    content, expected = UNKNOWN[name]
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(BadImage, match=expected):
        read(tmp_path / "x")


# Metadata

ORIENTATION = 0x0112
SIDEWAYS = np.rot90(ramp(255), 1).astype(np.uint8)  # upright by orientation 6
ODD_TAGS = {
    "a rational over 0": {0x011A: (5, [1, 0])},
    "a date that is a rational": {0x0132: (5, [1, 2])},
    "text in place of a number": {0x011A: (2, b"72\0"), 0x0128: (3, [3])},
    "directories that lie nowhere": {0x8825: (4, [99_999_999]), 0x8769: (4, [5])},
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("name", ODD_TAGS)
def test_odd_tags_leave_the_picture_and_its_orientation(tmp_path, name, kind):
    tags = {ORIENTATION: (3, [6]), **ODD_TAGS[name]}
    if kind == "TIFF":
        content = tiff(SIDEWAYS, 8, 1, tags=tags)
    else:
        file = io.BytesIO()
        options = {"JPEG": {"quality": 100}, "WEBP": {"lossless": True}, "PNG": {}}[kind]
        Image.fromarray(SIDEWAYS).save(file, kind, exif=exif(tags), **options)
        content = file.getvalue()
    np.testing.assert_allclose(row(tmp_path, content), UP, atol=2)


def with_exif(content, exif_data, kind="PNG"):
    file = io.BytesIO()
    Image.fromarray(content).save(file, kind, exif=exif_data)
    return file.getvalue()


@pytest.mark.parametrize(
    "value",
    [(1, [6]), (3, [6]), (4, [6]), (5, [6, 1]), (11, [6.0]), (3, [6, 1])],
    ids=["byte", "short", "long", "rational", "float", "two"],
)
def test_orientation_is_a_number_of_any_type(tmp_path, value):
    content = with_exif(SIDEWAYS, exif({ORIENTATION: value}))
    np.testing.assert_array_equal(row(tmp_path, content), UP)


@pytest.mark.parametrize(
    "data",
    [
        *(exif({ORIENTATION: (3, [number])}) for number in (0, 1, 9, 65535)),
        exif({ORIENTATION: (2, b"right\0")}),
        exif({ORIENTATION: (5, [6, 0])}),
        exif({ORIENTATION: (3, [6])})[:20],
        b"Exif\0\0",
        b"Exif\0\0anything",
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_no_orientation_that_can_be_read_is_none(tmp_path, data, kind):
    upright = ramp(255).astype(np.uint8)
    np.testing.assert_allclose(row(tmp_path, with_exif(upright, data, kind)), UP, atol=4)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_orientation_in_xmp(tmp_path, kind):
    xmp = '<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", xmp)
    options = {"pnginfo": info} if kind == "PNG" else {"xmp": xmp.encode(), "quality": 100}
    path = picture(tmp_path, Image.fromarray(SIDEWAYS), f"x.{kind.lower()}", **options)
    np.testing.assert_allclose(read(path, size=8, mode="L")[4, :, 0], UP, atol=8)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_a_tiff_and_of_a_large_jpeg(tmp_path, orientation):
    """Pillow turns a TIFF by itself, and decodes a large JPEG at a fraction of its size."""
    upright = np.zeros((60, 90), np.uint8)
    upright[:30, :30] = 255
    transforms = [
        lambda x: x,
        np.fliplr,
        lambda x: np.rot90(x, 2),
        np.flipud,
        np.transpose,
        lambda x: np.rot90(x, 1),
        lambda x: np.rot90(x, 2).T,
        lambda x: np.rot90(x, -1),
    ]
    stored = np.ascontiguousarray(transforms[orientation - 1](upright))
    tags = {ORIENTATION: (3, [orientation])}
    deep = stored.astype(np.int64) * 257
    contents = [
        tiff(stored, 8, 1, tags=tags),
        tiff(deep, 16, 1, ">", tags, is_zipped=True),
        tiff(np.stack([deep] * 3, axis=-1), 16, 2, tags=tags),
        with_exif(np.kron(stored, np.ones((20, 20), np.uint8)), exif(tags), "JPEG"),
    ]
    for content in contents:
        (tmp_path / "x").write_bytes(content)
        pixels = read(tmp_path / "x", size=6, mode="L", resize="scale")[:, :, 0]
        assert (pixels[:3, :2] > 200).all() and (pixels[4:] < 50).all(), orientation
        assert (pixels[:, 3:] < 50).all()


def damaged_metadata():
    upright = ramp(255)
    text = zlib.compress(b"a" * 2_000_000)
    for kind, data in [
        (b"zTXt", b"a\0\0" + text),
        (b"zTXt", b"a\0\7abc"),
        (b"iCCP", b"a\0\7abc"),
        (b"pHYs", b"\0"),
        (b"gAMA", b"\0"),
        (b"cHRM", b"\0"),
        (b"acTL", b"\0"),
    ]:
        yield f"png {kind.decode()}", png(upright, 8, (kind, data))
    content = png(upright, 8, (b"tEXt", b"a\0b"))
    start = content.index(b"tEXt") + 7
    yield "png checksum", content[:start] + b"\0\0\0\0" + content[start + 4 :]
    file = io.BytesIO()
    Image.fromarray(upright.astype(np.uint8)).save(file, "JPEG", quality=100)
    content = file.getvalue()
    for marker, data in [
        (0xFFE0, b"JFIF\0"),
        (0xFFE1, b"Exif\0\0"),
        (0xFFE2, b"ICC_PROFILE\0"),
        (0xFFE2, b"MPF\0anything"),
        (0xFFED, b"Photoshop 3.0\x008BIM\x03\xed"),
    ]:
        yield f"jpeg {data[:4]!r}", content[:2] + jpeg_segment(marker, data) + content[2:]


def test_damaged_metadata_leave_the_picture(tmp_path):
    for name, content in damaged_metadata():
        np.testing.assert_allclose(row(tmp_path, content), UP, atol=2, err_msg=name)


# Other files

SVG = b'<?xml version="1.0"?>\n<!-- drawn -->\n<svg xmlns="http://www.w3.org/2000/svg"/>'


def container(brand, *compatible):
    brands = b"".join(compatible)
    return struct.pack(">I", 16 + len(brands)) + b"ftyp" + brand + bytes(4) + brands


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (container(b"heic", b"mif1"), "a HEIC picture; convert it to JPEG or PNG"),
        (container(b"mif1", b"heic"), "a HEIC picture; convert it to JPEG or PNG"),
        (SVG, "an SVG drawing, which has no pixels; save it as PNG"),
        (b"\xef\xbb\xbf<svg/>", "an SVG drawing"),
        (b"<!-- drawn --><svg>", "an SVG drawing"),
        (SVG.decode().encode("utf-16"), "an SVG drawing"),
        (gzip.compress(SVG, mtime=0), "an SVG drawing"),
        (b"<!DOCTYPE html><html><svg/>", "a web page; download the picture itself"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b"II*\0\x10\0\0\0CR\2\0" + bytes(99), "a camera's raw file"),
        (container(b"crx "), "a camera's raw file"),
        (container(b"isom"), "a video"),
        (b"\0\0\1\xba" + bytes(99), "a video"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL picture"),
        (b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 4, 4, 16, 3), "a Photoshop picture"),
        (gzip.compress(b"text", mtime=0), "an archive"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"\xff\xd8\xff\xe0", "a JPEG picture that is damaged or of an unsupported kind"),
        (b"<?xml version='1.0'?><note/>", "not a picture"),
    ],
)
def test_other_files_are_named_by_their_content(tmp_path, content, expected):
    assert reason(tmp_path, content).startswith(expected)


def test_system_files_are_passed_over():
    for name in (
        *("Thumbs.db", "thumbs.DB", "ehthumbs.db", "desktop.ini", "Desktop.ini", ".DS_Store"),
        *("__MACOSX", "Icon\r", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "._a.jpg"),
    ):
        assert not is_visible(name), name
    for name in ("a.png", "Icon", "thumbs", "desktop", "recycler", "__macos", "", "db"):
        assert is_visible(name), name


def test_nothing_is_said_but_the_error(tmp_path, capfd):
    """Neither by Pillow's log nor by libtiff, which writes to the process's stderr."""
    whole = tiff(ramp(255), 8, 1, is_zipped=True)
    for content in (whole[:-9], tiff(ramp(255), 8, 1, tags={277: (4, [99])})):
        reason(tmp_path, content)
    assert capfd.readouterr() == ("", "")


def test_a_file_that_cannot_be_opened(tmp_path):
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "absent.png")


def test_text_of_a_file_in_a_message_is_printable(tmp_path):
    for bits in (b"\x1b[2J", "\u202e".encode()):
        content = directory({256: (4, [8]), 257: (4, [8]), 258: (2, bits), 262: (3, [1])}, "<")
        text = reason(tmp_path, content)
        assert text.isprintable() and "a TIFF picture" in text
