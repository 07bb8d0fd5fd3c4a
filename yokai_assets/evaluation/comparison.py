"""The picture people look at first: real images, base model and checkpoints, row by row on the same seeds.

Layout of one picture only; what is in it is chosen by the caller.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from yokai_assets.previews.fonts import font, wrapped
from yokai_assets.previews.sheets import GROUND, INK, MUTED_INK, tile

_CHOSEN = (24, 121, 78)
_LABEL_WIDTH_PX = 150
_GAP_PX = 6


@dataclass(frozen=True, slots=True)
class ComparisonRow:
    """One row: its name, a line of numbers under it, its pictures."""

    name: str
    note: str
    images: Sequence[Image.Image]
    is_chosen: bool = False


def comparison_grid(rows: Sequence[ComparisonRow], headings: Sequence[str], tile_px: int = 128) -> Image.Image:
    """Draw the rows under each other.

    Args:
        rows: Top to bottom.
        headings: One text per column; empty ones continue the one to their left. Rows without columns (real
            images) may hold other pictures than the headings say.
        tile_px: Side of a tile.

    Returns:
        RGB picture.
    """
    columns = max([len(headings), *(len(row.images) for row in rows)], default=1)
    head_px = 46 if any(headings) else _GAP_PX
    size = (
        _LABEL_WIDTH_PX + columns * (tile_px + _GAP_PX) + _GAP_PX,
        head_px + len(rows) * (tile_px + _GAP_PX) + _GAP_PX,
    )
    sheet = Image.new("RGB", size, GROUND)
    draw = ImageDraw.Draw(sheet)
    _draw_headings(draw, headings, tile_px)
    for number, row in enumerate(rows):
        top = head_px + number * (tile_px + _GAP_PX)
        _draw_label(draw, row, top, tile_px)
        for column, image in enumerate(row.images):
            left = _LABEL_WIDTH_PX + column * (tile_px + _GAP_PX)
            sheet.paste(tile(image, tile_px), (left, top))
        if row.is_chosen:
            right = _LABEL_WIDTH_PX + len(row.images) * (tile_px + _GAP_PX) - _GAP_PX + 2
            draw.rectangle((_LABEL_WIDTH_PX - 3, top - 3, right, top + tile_px + 2), outline=_CHOSEN, width=3)
    return sheet


def _draw_headings(draw: ImageDraw.ImageDraw, headings: Sequence[str], tile_px: int) -> None:
    starts = [index for index, text in enumerate(headings) if text]
    for start, end in zip(starts, [*starts[1:], len(headings)], strict=True):
        width = (end - start) * (tile_px + _GAP_PX) - _GAP_PX
        for line, text in enumerate(wrapped(headings[start], font(12, is_bold=True), width, max_lines=2)):
            left = _LABEL_WIDTH_PX + start * (tile_px + _GAP_PX)
            draw.text((left, 8 + line * 16), text, font=font(12, is_bold=True), fill=INK)


def _draw_label(draw: ImageDraw.ImageDraw, row: ComparisonRow, top: int, tile_px: int) -> None:
    middle = top + tile_px // 2
    width = _LABEL_WIDTH_PX - 20
    draw.text((12, middle - 24), row.name, font=font(14, is_bold=True), fill=_CHOSEN if row.is_chosen else INK)
    for line, text in enumerate(wrapped(row.note, font(11), width, max_lines=3)):
        draw.text((12, middle - 2 + line * 14), text, font=font(11), fill=MUTED_INK)
