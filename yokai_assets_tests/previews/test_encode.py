"""Encoded previews stay under their limit and remain pictures."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from yokai_assets.previews import encode_preview, markdown_image


def noise(width: int, height: int, channels: int = 3) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8))


@pytest.mark.parametrize("max_bytes", [60_000, 5_000, 300])
def test_limit_holds_for_the_worst_picture(max_bytes: int) -> None:
    """Protects: event logs do not grow, whatever the picture shows."""
    data = encode_preview(noise(500, 300), max_bytes)
    assert len(data) <= max_bytes
    assert Image.open(io.BytesIO(data)).format == "WEBP"


def test_easy_picture_keeps_its_size() -> None:
    """Protects: pictures are not shrunk without need."""
    picture = Image.linear_gradient("L").resize((800, 600))
    assert Image.open(io.BytesIO(encode_preview(picture))).size == (800, 600)


def test_transparency_survives() -> None:
    """Protects: cut-outs shown in reports keep their shape."""
    picture = noise(20, 20, 4)
    picture.putalpha(0)
    shown = Image.open(io.BytesIO(encode_preview(picture))).convert("RGBA")
    assert not np.asarray(shown)[..., 3].any()


def test_longer_than_webp_allows() -> None:
    """Protects: a very long sheet is scaled instead of failing."""
    assert max(Image.open(io.BytesIO(encode_preview(Image.new("RGB", (20_000, 2))))).size) <= 16_383


def test_impossible_limit_is_refused() -> None:
    """Protects: no endless loop."""
    with pytest.raises(ValueError, match="cannot fit"):
        encode_preview(Image.new("RGB", (4, 4)), max_bytes=5)


def test_markdown_holds_the_picture() -> None:
    """Protects: the picture in the markdown is the one given, and its text cannot break the syntax."""
    data = encode_preview(Image.new("RGB", (4, 4)))
    text = markdown_image(data, "a [b]\nc")
    start, _, rest = text.partition("base64,")
    assert start == "![a (b) c](data:image/webp;"
    assert base64.b64decode(rest.removesuffix(")")) == data


def test_other_bytes_are_refused() -> None:
    """Protects: a broken image is found where it is made, not by who looks at it."""
    with pytest.raises(ValueError, match="not a WebP"):
        markdown_image(b"hello, world", "x")
