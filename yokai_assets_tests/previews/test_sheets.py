"""Contact sheets: every picture is there, undistorted, and what cannot be drawn is refused."""

import numpy as np
import pytest
from PIL import Image

from yokai_assets.previews import contact_sheet
from yokai_assets.previews.fonts import fitted, font, wrapped

RED = (220, 0, 0)


def count_red(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image.convert("RGB")).astype(int)
    return (pixels[..., 0] > 180) & (pixels[..., 1] < 60) & (pixels[..., 2] < 60)


def test_every_picture_is_on_the_sheet() -> None:
    """Protects: no picture is lost in a last row that is not full."""
    red = [Image.new("RGB", (40, 40), RED) for _ in range(7)]
    sheet = contact_sheet(red, columns=3, tile_px=32)
    assert count_red(sheet).sum() == pytest.approx(7 * 30 * 30, rel=0.01)  # one pixel of edge around each


def test_aspect_is_kept() -> None:
    """Protects: a tall character does not look fat."""
    sheet = contact_sheet([Image.new("RGB", (20, 80), RED)], columns=1, tile_px=64)
    rows, columns = np.nonzero(count_red(sheet))
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert height / width == pytest.approx(4, rel=0.1)


def test_transparency_shows_the_ground() -> None:
    """Protects: what lies under the alpha of a cut-out is not shown."""
    hidden = Image.new("RGBA", (40, 40), (*RED, 0))
    sheet = contact_sheet([hidden], columns=1, tile_px=40)
    assert not count_red(sheet).any()
    assert np.asarray(sheet).min() > 150


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_any_mode_is_taken(mode: str) -> None:
    """Protects: masks and palette pictures can be shown as they are."""
    assert contact_sheet([Image.new(mode, (9, 5))], columns=4, tile_px=32).mode == "RGB"


def test_labels_and_title_take_room_of_their_own() -> None:
    """Protects: text never covers a picture."""
    red = [Image.new("RGB", (32, 32), RED)] * 2
    bare = contact_sheet(red, columns=2, tile_px=64)
    labelled = contact_sheet(red, columns=2, tile_px=64, labels=["a" * 80, ""], title="Title " * 40)
    assert labelled.height > bare.height
    assert labelled.width == bare.width
    assert count_red(labelled).sum() == count_red(bare).sum()


def test_no_pictures_give_a_sheet_that_says_so() -> None:
    """Protects: a character without images does not break its page."""
    assert contact_sheet([], columns=4, tile_px=64, labels=[], title="cluster_009").width > 0


@pytest.mark.parametrize(("columns", "tile_px", "labels"), [(0, 64, None), (1, 4, None), (1, 64, ["one", "two"])])
def test_what_makes_no_sense_is_refused(columns: int, tile_px: int, labels: list[str] | None) -> None:
    """Protects: labels never slip to another picture."""
    with pytest.raises(ValueError, match="contact sheet"):
        contact_sheet([Image.new("RGB", (8, 8))], columns=columns, tile_px=tile_px, labels=labels)


def test_shortened_text_fits() -> None:
    """Protects: labels stay within their tile."""
    face = font(12)
    assert fitted("short", face, 200) == "short"
    short = fitted("a very long label indeed", face, 60)
    assert short.endswith("…")
    assert face.getlength(short) <= 60
    lines = wrapped("one two three four five six seven", face, 60, max_lines=2)
    assert len(lines) == 2
    assert all(face.getlength(line) <= 60 for line in lines)
