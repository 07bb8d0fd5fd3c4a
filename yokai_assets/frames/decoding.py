"""From a file's bytes to pixels: 8-bit RGB, upright, whatever the format and mode; or a small luma picture, fast.

One image at a time, judged by content and never by name. Whoever reads images that people bring reads them here.
Videos are `video`'s matter, hashes `fingerprint`'s.
"""

import io
import struct
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageFile, ImageOps
from upath import UPath

MAX_FRAME_PIXELS = 1 << 26
"""Refuse larger images (67 megapixels, twice 8K video): decoding one would take a gigabyte for no frame."""

IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "BMP", "DIB", "GIF", "TIFF", "PPM", "JPEG2000", "QOI", "TGA")
"""Formats that are decoded, whatever a file's name says. Pillow knows more: PostScript, say, it would hand to a
Ghostscript that is installed, which executes it."""

THUMBNAIL_PX = (160, 90)
"""Thumbnails are scaled down by a power of two up to 8, to no less than this (width, height)."""

IMAGE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    EOFError,
    struct.error,
    Image.DecompressionBombError,
)
"""What Pillow raises on an image file that is missing, damaged, truncated, too large or none at all.

`UnidentifiedImageError` is an `OSError`; `SyntaxError` comes from damaged PNG and WebP headers, `TypeError` from
damaged EXIF numbers. Catch them around opening and loading only.
"""

_EXIF_ORIENTATION = 0x0112


class FrameError(Exception):
    """A frame that cannot be read: where, why, and what to do."""

    def __init__(self, path: str, reason: str, remedy: str) -> None:
        super().__init__(f"{path}: {reason}. {remedy}")
        self.path = path
        self.reason = reason
        self.remedy = remedy


def open_image(file: IO[bytes] | Path) -> ImageFile.ImageFile:
    """Open an image in one of `IMAGE_FORMATS`, without decoding it; raises what `PIL.Image.open` does.

    For pictures of our own making; what people bring is read by `decode_image`, which refuses absurd sizes too.
    """
    return Image.open(file, formats=IMAGE_FORMATS)  # noqa: TID251


def read_bytes(path: UPath) -> bytes:
    """Read a whole file.

    Raises:
        FrameError: It is missing, empty or cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        reason = error.strerror or f"{type(error).__name__}: {error}"
        raise FrameError(str(path), f"cannot be opened ({reason})", "Check the file and its permissions.") from error
    if not data:
        raise FrameError(str(path), "is empty (0 bytes)", "Extract this frame again.")
    return data


def decode_rgb(data: bytes, name: str) -> Image.Image:
    """Decode an image file in full: RGB, 8 bits, upright; of an animation its first frame.

    Transparent pixels are put on black, as a player shows them; 16-bit grey is scaled, not clipped.

    Raises:
        FrameError: `data` is no image, damaged, truncated or larger than `MAX_FRAME_PIXELS`.
    """
    return rgb_of(decode_image(data, name))


def decode_image(data: bytes, name: str) -> Image.Image:
    """Decode an image file in full, upright, in its own mode; of an animation its first frame.

    Raises:
        FrameError: `data` is no image, damaged, truncated or larger than `MAX_FRAME_PIXELS`.
    """
    try:
        with _open(data, name) as image:
            return _upright(image)
    except FrameError:
        raise
    except Exception as error:
        raise _damaged(name, error) from error


def decode_thumbnail(data: bytes, name: str) -> tuple[Image.Image, tuple[int, int]]:
    """Decode a small luma picture, and the full size of the upright image.

    A JPEG is decoded at down to 1/8 in the DCT domain, luma only: about four times as fast as in full.

    Returns:
        An `L` image at 1/1, 1/2, 1/4 or 1/8 of the frame, and the frame's (width, height) in px.

    Raises:
        FrameError: As for `decode_rgb`.
    """
    try:
        with _open(data, name) as image:
            size_px = image.size
            if image.format == "JPEG" and image.mode in ("RGB", "L"):
                image.draft("L", THUMBNAIL_PX)
            image.load()
            if _orientation(image) in (5, 6, 7, 8):
                size_px = (size_px[1], size_px[0])
            upright = _upright(image)
            luma = upright if upright.mode == "L" else rgb_of(upright).convert("L")
            return shrink_luma(luma), size_px
    except FrameError:
        raise
    except Exception as error:
        raise _damaged(name, error) from error


def shrink_luma(luma: Image.Image) -> Image.Image:
    """Scale an `L` image down by 2, 4 or 8 (box filter), as a JPEG decoder would, but not below `THUMBNAIL_PX`."""
    factor = 8
    while factor > 1 and (luma.width < THUMBNAIL_PX[0] * factor or luma.height < THUMBNAIL_PX[1] * factor):
        factor //= 2
    return luma.reduce(factor) if factor > 1 else luma


def _open(data: bytes, name: str) -> Image.Image:
    image = open_image(io.BytesIO(data))
    if image.width * image.height > MAX_FRAME_PIXELS:
        raise _too_large(name, f"{image.width}x{image.height} px, more than {MAX_FRAME_PIXELS / 1e6:.0f} megapixels")
    return image


def _too_large(name: str, why: str) -> FrameError:
    return FrameError(name, f"is too large ({why})", "Remove it, or scale it down to the size of the others.")


def _damaged(name: str, error: Exception) -> FrameError:
    if isinstance(error, Image.UnidentifiedImageError):
        return FrameError(name, "is no image in a known format", "Extract this frame again, or remove the file.")
    if isinstance(error, Image.DecompressionBombError):
        return _too_large(name, str(error).rstrip("."))
    reason = " ".join(str(error).split()) or type(error).__name__
    return FrameError(name, f"is damaged ({reason})", "Extract this frame again.")


def _upright(image: Image.Image) -> Image.Image:
    image.load()
    return ImageOps.exif_transpose(image) if _orientation(image) in range(2, 9) else image


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1-8; 1 where EXIF is damaged: the pixels are what counts."""
    try:
        return image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # damaged EXIF raises whatever its parser stumbles over
        return 1


def rgb_of(image: Image.Image) -> Image.Image:
    """Return an image of any mode as 8-bit RGB, see `decode_rgb`."""
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return _deep_grey_to_rgb(image)
    if image.has_transparency_data:
        with_alpha = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, (0, 0, 0, 255))
        return Image.alpha_composite(ground, with_alpha).convert("RGB")
    return image.convert("RGB")


def _deep_grey_to_rgb(image: Image.Image) -> Image.Image:
    """Scale 16-bit, 32-bit or float grey to 8 bits: Pillow's own conversion clips it."""
    values = np.nan_to_num(np.asarray(image).astype(np.float32), posinf=0.0, neginf=0.0)
    float_scale = 1.0 if float(values.max()) <= 1.0 else 255.0
    full_scale = float_scale if image.mode == "F" else 65535.0
    grey = np.clip(values * (255.0 / full_scale), 0, 255).round().astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")
