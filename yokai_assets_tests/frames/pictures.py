"""Pictures and files that the tests of frames and segmentation read: made here, small, seeded."""

import io
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter


def scene(seed: int, width_px: int = 160, height_px: int = 96) -> Image.Image:
    """A soft random landscape: another seed is clearly another picture."""
    noise = np.random.default_rng(seed).integers(30, 225, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width_px, height_px), Image.Resampling.BICUBIC)


def with_grain(image: Image.Image, seed: int, amount: int = 3) -> Image.Image:
    """The same picture with film grain: other bytes, the same look."""
    grain = np.random.default_rng(seed).integers(-amount, amount + 1, np.asarray(image).shape)
    return Image.fromarray(np.clip(np.asarray(image).astype(int) + grain, 0, 255).astype(np.uint8))


def blurred(image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(3))


def with_disc(image: Image.Image, center: tuple[int, int], radius_px: int, colour: tuple[int, int, int]) -> Image.Image:
    """The picture with a flat disc drawn on it: a character for a matte that looks for its colour."""
    picture = image.copy()
    x, y = center
    ImageDraw.Draw(picture).ellipse((x - radius_px, y - radius_px, x + radius_px, y + radius_px), fill=colour)
    return picture


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def write(path: Path, data: bytes | Image.Image, kind: str = "PNG", **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else encoded(data, kind, **options))
    return path


def write_video(path: Path, pictures: list[Image.Image], frames_per_second: int = 12, codec: str = "mpeg4") -> Path:
    """A video file of these pictures, written with PyAV."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(frames_per_second))
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = pictures[0].size
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 4_000_000
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())
    return path
