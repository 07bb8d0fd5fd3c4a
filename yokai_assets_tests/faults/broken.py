"""Makes broken and odd image files from valid ones: seeded, by the hundred, each with what may become of it."""

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, PngImagePlugin

from yokai_assets_tests.frames.pictures import encoded

Fate = Literal["readable", "unreadable", "either"]

FORMATS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tif"}

NAMES = (
    "two words", "  spaces  ", "it's", 'say "hi"', "line\nbreak", "carriage\rreturn", "tab\there", "emoji 🦊🎬",
    "第1話", "a..b", "a...b", "x" * 240, "-rf", "--output", "~root", "$HOME", "`id`", "$(id)", "%s%n%x",
    "{0.__class__}", "[red]x", "*", "?", "[0-9]", "a;b|c&d", "<script>alert(1)<_script>", "back\\slash",
    "..\\..\\up", "#12", "film.mkv#12", "C:", "CON", "NUL", "trailing.", "e\u0301", "\u202egnp", "null\u2400",
    "\x1b[31mred", "Re::Zero", "s3:__b", "=1+1", "@x", "|pipe|", "", "not utf-8 \udce9",
)  # fmt: skip
"""Stems that people and programs give to files; what a file system cannot hold is left out by whoever writes them."""


@dataclass(frozen=True, slots=True)
class Broken:
    """A file to write: its name without the number in front, what was done to it, its bytes, what may become of it."""

    name: str
    kind: str
    data: bytes
    fate: Fate


def broken_images(valid: list[Image.Image], count: int, seed: int = 0) -> Iterator[Broken]:
    """Yield `count` files made from valid pictures, all kinds in turn; the same for the same seed."""
    rng = np.random.default_rng(seed)
    made = 0
    while True:
        for make in _MAKERS:
            picture = valid[int(rng.integers(len(valid)))]
            for one in make(picture, rng):
                yield one
                made += 1
                if made == count:
                    return


def write_all(folder: Path, files: Iterator[Broken]) -> dict[str, Broken]:
    """Write files under names that sort after those of frames; return name -> file. A name too long is cut."""
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for number, one in enumerate(files):
        name = f"z{number:04d}{one.name}"
        while len(name.encode("utf-8", "surrogateescape")) > 255:
            name = name[:6] + name[7:]
        (folder / name).write_bytes(one.data)
        written[name] = one
    return written


def _any_format(rng: np.random.Generator) -> tuple[str, str]:
    kind = list(FORMATS)[int(rng.integers(len(FORMATS)))]
    return kind, FORMATS[kind]


def _truncated(picture: Image.Image, rng: np.random.Generator) -> Iterator[Broken]:
    for kind, suffix in FORMATS.items():
        data = encoded(picture, kind)
        share = float(rng.uniform(0.02, 0.8))
        yield Broken(f".{suffix}", f"truncated {kind}", data[: max(1, int(len(data) * share))], "unreadable")


def _bits_flipped(picture: Image.Image, rng: np.random.Generator) -> Iterator[Broken]:
    for kind, suffix in FORMATS.items():
        data = np.frombuffer(encoded(picture, kind), np.uint8).copy()
        at = rng.integers(0, len(data), int(rng.choice([1, 3, 30])))
        data[at] ^= (1 << rng.integers(0, 8, len(at))).astype(np.uint8)
        yield Broken(f".{suffix}", f"bits flipped in {kind}", data.tobytes(), "either")


def _header_flipped(picture: Image.Image, rng: np.random.Generator) -> Iterator[Broken]:
    for kind, suffix in FORMATS.items():
        data = np.frombuffer(encoded(picture, kind), np.uint8).copy()
        at = rng.integers(0, min(64, len(data)), 4)
        data[at] = rng.integers(0, 256, 4)
        yield Broken(f".{suffix}", f"header of {kind} overwritten", data.tobytes(), "either")


def _a_hole(picture: Image.Image, rng: np.random.Generator) -> Iterator[Broken]:
    kind, suffix = _any_format(rng)
    data = bytearray(encoded(picture, kind))
    start = int(rng.integers(len(data) // 2))
    data[start : start + len(data) // 4] = bytes(len(data[start : start + len(data) // 4]))
    yield Broken(f".{suffix}", f"a hole in {kind}", bytes(data), "either")


def _nothing_in_it(picture: Image.Image, rng: np.random.Generator) -> Iterator[Broken]:
    yield Broken(".png", "no bytes", b"", "unreadable")
    yield Broken(".jpg", "zeros", bytes(len(encoded(picture, "JPEG"))), "unreadable")


def _no_image(picture: Image.Image, rng: np.random.Generator) -> Iterator[Broken]:
    others = {
        "text": b"not an image", "html": b"<html><body>404 Not Found</body></html>", "svg": b"<svg xmlns='x'/>",
        "zip": b"PK\x03\x04" + rng.bytes(200), "pdf": b"%PDF-1.7\n" + rng.bytes(50), "noise": rng.bytes(4000),
        "signature": b"\x89PNG\r\n\x1a\n", "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF\n",
        "two bytes": b"\xff\xd8", "mp4": b"\x00\x00\x00\x20ftypisom" + rng.bytes(300), "lfs": b"version https://git-lfs",
    }  # fmt: skip
    for kind, data in others.items():
        yield Broken(".png", f"{kind} named as an image", data, "unreadable")


def _wrong_suffix(picture: Image.Image, rng: np.random.Generator) -> Iterator[Broken]:
    kinds = list(FORMATS)
    for kind, other in zip(kinds, [*kinds[1:], kinds[0]], strict=True):
        yield Broken(f".{FORMATS[other]}", f"{kind} named .{FORMATS[other]}", encoded(picture, kind), "readable")


def _png(width: int, height: int, bits: int, colour: int, rows: bytes, extra: bytes = b"") -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@cache
def _blank_bomb() -> bytes:
    side = 12_000  # 144 megapixels: Pillow itself only warns
    return _png(side, side, 1, 0, zlib.compress(bytes(side * (side // 8 + 1)), 9))


@cache
def _text_bomb() -> bytes:
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "a" * 80_000_000, zip=True)
    return encoded(Image.new("RGB", (64, 48), "grey"), "PNG", pnginfo=text)


def _bombs(picture: Image.Image, rng: np.random.Generator) -> Iterator[Broken]:
    yield Broken(".png", "bomb of blank pixels", _blank_bomb(), "unreadable")
    yield Broken(".png", "bomb of text in a PNG", _text_bomb(), "either")
    yield Broken(".png", "bomb in its header", _png(65_000, 65_000, 8, 2, zlib.compress(b"\0")), "unreadable")
    gif = bytearray(encoded(picture, "GIF"))
    gif[6:10] = struct.pack("<HH", 65_000, 65_000)
    yield Broken(".gif", "bomb of a GIF's screen", bytes(gif), "unreadable")
    bmp = bytearray(encoded(picture, "BMP"))
    bmp[18:26] = struct.pack("<ii", 40_000, 40_000)
    yield Broken(".bmp", "bomb of a BMP's header", bytes(bmp), "unreadable")


def _sizes(picture: Image.Image, rng: np.random.Generator) -> Iterator[Broken]:
    for size in ((1, 1), (1, 400), (400, 1), (20_000, 10), (10, 20_000), (2, 2), (3, 7)):
        yield Broken(".png", f"{size[0]}x{size[1]}", encoded(picture.resize(size)), "readable")


def _modes(picture: Image.Image, rng: np.random.Generator) -> Iterator[Broken]:
    grey = np.asarray(picture.convert("L"))
    alpha = picture.convert("RGBA")
    half = np.where(np.arange(picture.width) < picture.width // 2, 255, 0).astype(np.uint8)
    alpha.putalpha(Image.fromarray(np.tile(half, (picture.height, 1))))
    deep = grey.astype(np.uint16) * 257
    rgb16 = b"".join(b"\0" + row.tobytes() for row in (np.asarray(picture).astype(">u2") * 257))
    palette = picture.convert("P")
    palette.info["transparency"] = 0
    made: dict[str, tuple[str, bytes]] = {
        "CMYK": ("jpg", encoded(picture.convert("CMYK"), "JPEG")),
        "grey": ("jpg", encoded(picture.convert("L"), "JPEG")),
        "progressive": ("jpg", encoded(picture, "JPEG", progressive=True)),
        "palette": ("png", encoded(picture.convert("P"))),
        "palette with transparency": ("png", encoded(palette, "PNG", transparency=0)),
        "bilevel": ("png", encoded(picture.convert("1"))),
        "grey with alpha": ("png", encoded(alpha.convert("LA"))),
        "alpha": ("png", encoded(alpha)),
        "alpha WebP": ("webp", encoded(alpha, "WEBP", lossless=True)),
        "16-bit grey": ("png", encoded(Image.fromarray(deep))),
        "16-bit grey TIFF": ("tif", encoded(Image.fromarray(deep), "TIFF")),
        "32-bit grey TIFF": ("tif", encoded(Image.fromarray(grey.astype(np.int32)), "TIFF")),
        "float TIFF": ("tif", encoded(Image.fromarray(grey.astype(np.float32) / 255), "TIFF")),
        "not a number TIFF": ("tif", encoded(Image.fromarray(np.full(grey.shape, np.nan, np.float32)), "TIFF")),
        "16-bit RGB": ("png", _png(picture.width, picture.height, 16, 2, zlib.compress(rgb16))),
        "Lab TIFF": ("tif", encoded(picture.convert("LAB"), "TIFF")),
        "YCbCr TIFF": ("tif", encoded(picture.convert("YCbCr"), "TIFF")),
        "CMYK TIFF": ("tif", encoded(picture.convert("CMYK"), "TIFF", compression="tiff_lzw")),
        "transparent all over": ("png", encoded(Image.new("RGBA", picture.size))),
    }  # fmt: skip
    for kind, (suffix, data) in made.items():
        yield Broken(f".{suffix}", kind, data, "readable")


def _animated(picture: Image.Image, rng: np.random.Generator) -> Iterator[Broken]:
    more = [picture.rotate(90 * n) for n in (1, 2)]
    for kind, suffix in (("GIF", "gif"), ("WEBP", "webp"), ("PNG", "png"), ("TIFF", "tif")):
        data = encoded(picture, kind, save_all=True, append_images=more)
        yield Broken(f".{suffix}", f"animated {kind}", data, "readable")
        yield Broken(f".{suffix}", f"truncated animated {kind}", data[: len(data) // 6], "either")


def _turned(picture: Image.Image, rng: np.random.Generator) -> Iterator[Broken]:
    for orientation in (2, 3, 4, 5, 6, 7, 8, 0, 9, 60_000):
        exif = Image.Exif()
        exif[0x0112] = orientation
        yield Broken(".jpg", f"EXIF orientation {orientation}", encoded(picture, "JPEG", exif=exif), "readable")
    for kind, suffix in (("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp")):
        for exif in (b"Exif\0\0" + rng.bytes(40), b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + rng.bytes(60)):
            yield Broken(f".{suffix}", f"damaged EXIF in {kind}", encoded(picture, kind, exif=exif), "either")
    profile = encoded(picture, "JPEG", icc_profile=rng.bytes(500))
    yield Broken(".jpg", "damaged colour profile", profile, "readable")


def _named(picture: Image.Image, rng: np.random.Generator) -> Iterator[Broken]:
    small = picture.resize((96, 54))
    for number, name in enumerate(NAMES):
        suffix = (".png", ".PNG", ".jpeg", ".JpG")[number % 4]
        data = encoded(small, "JPEG" if number % 4 > 1 else "PNG")
        yield Broken(f"{name}{suffix}", f"named {name!a}", data, "readable")


_MAKERS: tuple[Callable[[Image.Image, np.random.Generator], Iterator[Broken]], ...] = (
    _truncated, _bits_flipped, _header_flipped, _a_hole, _nothing_in_it, _no_image, _wrong_suffix, _bombs, _sizes,
    _modes, _animated, _turned, _named,
)  # fmt: skip
