"""Frames to an animated GIF."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from src.system.atomic import atomic_write
from src.system.progress import phase

# A frame is looked at through this many pixels a side to choose the common palette.
_PREVIEW_SIDE = 256


def write_gif(
    path: Path, frames: Sequence[Image.Image], *, seconds: float = 0.5, last_seconds: float = 2.5
) -> None:
    """Write an animated GIF that repeats for ever.

    All frames share one palette of 256 colours, chosen from all of them, and are not dithered: a
    palette for each, or dots that are set anew each time, would make what stands still flicker.
    Of frames in a row that are equal, one is shown for the time of all.

    Args:
        path: the file to create or replace.
        frames: RGB, at least one, all of one size.
        seconds: how long each frame is shown, to a hundredth.
        last_seconds: how long the last one is.
    """
    durations = [round(100 * seconds) * 10] * (len(frames) - 1) + [round(100 * last_seconds) * 10]
    with phase(f"writing {path.name}"):
        palette = _common_palette(frames)
        paletted = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
        with atomic_write(path) as file:
            paletted[0].save(
                file,
                format="GIF",
                save_all=True,
                append_images=paletted[1:],
                duration=durations,
                loop=0,
                optimize=False,
            )


def _common_palette(frames: Sequence[Image.Image]) -> Image.Image:
    """Return an image whose palette fits all frames."""
    previews = [frame.copy() for frame in frames]
    for preview in previews:
        preview.thumbnail((_PREVIEW_SIDE, _PREVIEW_SIDE), Image.Resampling.NEAREST)
    width, height = previews[0].size
    sheet = Image.new("RGB", (width, height * len(previews)))
    for row, preview in enumerate(previews):
        sheet.paste(preview, (0, row * height))
    return sheet.quantize(256, method=Image.Quantize.MAXCOVERAGE)
