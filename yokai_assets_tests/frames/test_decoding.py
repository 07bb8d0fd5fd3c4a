"""Decoding: every kind of file that a real series holds becomes upright 8-bit RGB, or a clear error."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from upath import UPath

from yokai_assets.frames.decoding import IMAGE_ERRORS, FrameError, decode_rgb, decode_thumbnail
from yokai_assets.frames.fingerprint import fingerprint_luma
from yokai_assets.frames.reader import read_frame
from yokai_assets_tests.frames.pictures import encoded, scene, write


def difference(image: Image.Image, other: Image.Image) -> float:
    return float(np.abs(np.asarray(image).astype(int) - np.asarray(other).astype(int)).mean())


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("CMYK", "JPEG"), ("P", "PNG"), ("RGBA", "PNG"), ("RGB", "WEBP"), ("RGB", "BMP"), ("RGB", "GIF"), ("RGB", "TIFF")],
)
def test_modes_and_formats_look_the_same(mode: str, kind: str) -> None:
    """Protects: no mode comes out inverted, clipped or with other colours."""
    image = scene(3).quantize(64).convert("RGB")
    data = encoded(image.quantize(64) if mode == "P" else image.convert(mode), kind)
    decoded = decode_rgb(data, "frame")
    assert decoded.mode == "RGB"
    assert difference(decoded, image) < 8
    thumbnail, size_px = decode_thumbnail(data, "frame")
    assert size_px == image.size
    assert difference(thumbnail, image.convert("L")) < 8


def test_sixteen_bit_grey_is_scaled() -> None:
    """Protects: 16-bit PNG, which Pillow's own conversion turns white."""
    grey = np.asarray(scene(4).convert("L"))
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    assert difference(decode_rgb(encoded(deep), "f").convert("L"), Image.fromarray(grey)) <= 1


def test_transparent_pixels_are_black() -> None:
    """Protects: colours hidden under transparency do not come to light."""
    image = scene(5).convert("RGBA")
    image.putalpha(0)
    assert np.asarray(decode_rgb(encoded(image), "f")).max() == 0


def test_exif_orientation_is_applied() -> None:
    """Protects: a turned photograph is upright, and its size is told upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(scene(6), "JPEG", exif=exif.tobytes(), quality=95)
    assert decode_rgb(data, "f").size == (96, 160)
    thumbnail, size_px = decode_thumbnail(data, "f")
    assert size_px == (96, 160)
    assert thumbnail.size == (96, 160)


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
def test_first_frame_of_an_animation(kind: str) -> None:
    """Protects: an animated file counts as its first frame."""
    data = encoded(scene(1), kind, save_all=True, append_images=[scene(2)], duration=100)
    assert difference(decode_rgb(data, "f"), scene(1)) < difference(decode_rgb(data, "f"), scene(2)) / 3


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_truncated_files_are_errors(kind: str) -> None:
    """Protects: half a file is never half a frame, in full or as a thumbnail."""
    data = encoded(scene(7, 640, 384), kind)
    for decode in (decode_rgb, decode_thumbnail):
        with pytest.raises(FrameError, match="damaged"):
            decode(data[: len(data) // 2], "f")


@pytest.mark.parametrize("data", [b"no image at all", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"])
def test_foreign_bytes_are_errors(data: bytes) -> None:
    """Protects: bytes of any sort give the one error type that callers catch."""
    with pytest.raises(FrameError):
        decode_rgb(data, "f")
    with pytest.raises(FrameError):
        decode_thumbnail(data, "f")


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_damage_raises_a_listed_error(kind: str) -> None:
    """Protects: whoever catches `IMAGE_ERRORS` survives any damaged file, damaged EXIF included."""
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    scene(0).resize((50, 40)).save(buffer, kind, **({} if kind in ("GIF", "BMP") else {"exif": exif}))
    rng = np.random.default_rng(7)
    errors = 0
    for _ in range(250):
        data = bytearray(buffer.getvalue())
        for position in rng.integers(0, rng.choice([60, 200, len(data)]), 3):
            data[min(position, len(data) - 1)] = rng.integers(256)
        try:
            with Image.open(io.BytesIO(bytes(data[: len(data) // 2] if rng.random() < 0.2 else data))) as image:
                image.load()
                ImageOps.exif_transpose(image)
        except IMAGE_ERRORS:
            errors += 1
    assert errors > 25


def test_huge_and_tiny_images() -> None:
    """Protects: an absurd size is refused before it is decoded; a single pixel is an image."""
    with pytest.raises(FrameError, match="more than 67 megapixels"):
        decode_rgb(encoded(Image.new("1", (9000, 9000))), "f")
    thumbnail, size_px = decode_thumbnail(encoded(Image.new("RGB", (1, 1), "red")), "f")
    assert size_px == (1, 1)
    assert fingerprint_luma(thumbnail).luma_deviation == 0


def test_missing_and_empty_files(tmp_path: Path) -> None:
    """Protects: the error names the file, the reason and a remedy."""
    empty = write(tmp_path / "empty.png", b"")
    with pytest.raises(FrameError, match=r"empty\.png: is empty \(0 bytes\)\. Extract this frame again"):
        read_frame(UPath(empty))
    with pytest.raises(FrameError, match="cannot be opened"):
        read_frame(UPath(tmp_path / "gone.png"))


def test_reduced_jpeg_has_the_hash_of_the_full_one() -> None:
    """Protects: the fast DCT path measures the same frame: hashes within 2 bits, luma within 2 levels."""
    for seed in range(6):
        image = scene(seed, 1280, 720)
        fast = fingerprint_luma(decode_thumbnail(encoded(image, "JPEG", quality=90), "f")[0])
        full = fingerprint_luma(decode_thumbnail(encoded(image, "BMP"), "f")[0])
        assert (fast.dhash ^ full.dhash).bit_count() <= 2
        assert abs(fast.luma_mean - full.luma_mean) < 2


def test_hash_is_the_known_difference_hash() -> None:
    """Protects: bit order and direction; a stored hash keeps its meaning."""
    ramp = Image.fromarray(np.tile(np.linspace(10, 240, 144, dtype=np.uint8), (128, 1)))
    assert fingerprint_luma(ramp).dhash == 2**64 - 1
    assert fingerprint_luma(ramp.transpose(Image.Transpose.FLIP_LEFT_RIGHT)).dhash == 0
    half = Image.new("L", (144, 128), 100)
    half.paste(ramp.crop((0, 0, 144, 16)), (0, 0))
    assert fingerprint_luma(half).dhash >> 56 == 0xFF
