"""A preview never costs a finished stage: what cannot be read is left out."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from upath import UPath

from yokai_assets.previews.stages import files_sheet, groups_sheet
from yokai_assets.storage.layout import Layout

RED = (220, 20, 20)


def png(color: tuple[int, int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), color).save(buffer, "PNG")
    return buffer.getvalue()


def with_broken_chunk() -> bytes:
    """A PNG of several chunks of pixels, the name of the second one damaged."""
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)).save(buffer, "PNG")
    first, second, rest = buffer.getvalue().split(b"IDAT", 2)
    return first + b"IDAT" + second + b"\0\0\0\0" + rest


def damaged() -> dict[str, bytes]:
    """Files that Pillow refuses in different ways, a `SyntaxError` among them."""
    whole = png(RED)
    return {
        "chunk.png": with_broken_chunk(),
        "cut.png": whole[:40],
        "empty.png": b"",
        "text.png": b"no image",
    }


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    for name, data in {**damaged(), "good.png": png(RED)}.items():
        (tmp_path / name).write_bytes(data)
    return Layout(UPath(tmp_path), "s")


def test_a_broken_chunk_is_a_syntax_error_in_pillow() -> None:
    """Why `OSError` and `ValueError` are not enough; if Pillow changes this, the list may shrink."""
    with pytest.raises(SyntaxError):
        Image.open(io.BytesIO(damaged()["chunk.png"])).load()


@pytest.mark.parametrize("bad", [*damaged(), "missing.png"])
def test_damaged_pictures_are_left_out(layout: Layout, bad: str) -> None:
    """One damaged cut-out must not fail the step whose work it previews."""
    sheet = files_sheet(layout, [bad, "good.png"])
    assert sheet is not None and sheet.size == files_sheet(layout, ["good.png"]).size  # type: ignore[union-attr]
    rows = groups_sheet({"a": [bad, "good.png"]}, layout)
    assert rows is not None
    reddish = (np.asarray(rows.convert("RGB")).astype(int) - RED).__abs__().sum(axis=2) < 60
    assert reddish.any()


def test_nothing_to_show_is_no_picture(layout: Layout) -> None:
    """No sheet at all is told as None; the metadata then has none."""
    assert files_sheet(layout, ["missing.png"]) is None
