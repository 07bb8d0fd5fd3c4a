"""Contact sheets: many pictures in one, aspect kept, each with its label.

Only the sheet; choosing what is on it and encoding it belong elsewhere.
"""

from collections.abc import Sequence

from PIL import Image, ImageDraw

from yokai_assets.previews.fonts import Font, fitted, font, wrapped

GROUND = (247, 246, 243)
INK = (52, 50, 47)
MUTED_INK = (122, 118, 112)
_CHECKER = ((255, 255, 255), (240, 239, 235))
_EDGE = (224, 221, 214)


def contact_sheet(
    images: Sequence[Image.Image],
    *,
    columns: int,
    tile_px: int,
    labels: Sequence[str] | None = None,
    label_lines: int = 1,
    title: str | None = None,
) -> Image.Image:
    """Lay pictures out in a grid, row by row.

    Args:
        images: Pictures of any size and mode; transparent ones stand on a soft checker.
        columns: Tiles of a full row; fewer pictures make a narrower sheet.
        tile_px: Side of the square that each picture is fitted into; small pictures are not enlarged more
            than four times.
        labels: One text per picture, below it; shortened where it does not fit.
        label_lines: Lines that a label may take.
        title: A line above the grid.

    Returns:
        RGB picture. No images give a sheet that says so.

    Raises:
        ValueError: `columns` or `tile_px` is too small, or there are more or fewer labels than images.
    """
    if columns < 1 or tile_px < 8:
        raise ValueError(f"contact sheet: columns={columns} must be >= 1 and tile_px={tile_px} >= 8")
    if labels is not None and len(labels) != len(images):
        raise ValueError(f"contact sheet: {len(labels)} labels for {len(images)} images")
    if not images:
        return _empty_sheet(tile_px, title)
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    gap = max(4, tile_px // 16)
    text_px = max(10, min(15, tile_px // 9))
    line_height = round(text_px * 1.5)
    label_height = line_height * label_lines if labels else 0
    width = gap + columns * (tile_px + gap)
    head, title_lines = _title_block(title, width - 2 * gap, text_px)
    sheet = Image.new("RGB", (width, head + gap + rows * (tile_px + label_height + gap)), GROUND)
    draw = ImageDraw.Draw(sheet)
    _draw_title(draw, title_lines, gap, text_px)
    for index, image in enumerate(images):
        left = gap + (index % columns) * (tile_px + gap)
        top = head + gap + (index // columns) * (tile_px + label_height + gap)
        sheet.paste(tile(image, tile_px), (left, top))
        draw.rectangle((left, top, left + tile_px - 1, top + tile_px - 1), outline=_EDGE)
        if labels:
            face = font(text_px)
            for number, line in enumerate(_label(labels[index], face, tile_px + gap // 2, label_lines)):
                middle = (left + tile_px / 2, top + tile_px + (number + 0.5) * line_height)
                draw.text(middle, line, font=face, fill=INK, anchor="mm")
    return sheet


def _label(text: str, face: Font, width_px: int, lines: int) -> list[str]:
    return [fitted(text, face, width_px)] if lines == 1 else wrapped(text, face, width_px, max_lines=lines)


def tile(image: Image.Image, side_px: int, max_enlargement: float = 4.0) -> Image.Image:
    """Fit a picture into an RGB square of `side_px`, centred, aspect kept, transparency on a soft checker."""
    ground = checker(side_px, side_px)
    picture = image.convert("RGBA")
    scale = min(side_px / picture.width, side_px / picture.height, max_enlargement)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    picture = picture.resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC)
    ground.paste(picture, ((side_px - size[0]) // 2, (side_px - size[1]) // 2), picture)
    return ground


def checker(width_px: int, height_px: int, cell_px: int = 8) -> Image.Image:
    """Return a soft two-tone checker, the ground behind transparent pictures."""
    small = Image.new("RGB", (-(-width_px // cell_px), -(-height_px // cell_px)), _CHECKER[0])
    pixels = [_CHECKER[(x + y) % 2] for y in range(small.height) for x in range(small.width)]
    small.putdata(pixels)
    large = small.resize((small.width * cell_px, small.height * cell_px), Image.Resampling.NEAREST)
    return large.crop((0, 0, width_px, height_px))


def _title_block(title: str | None, width_px: int, text_px: int) -> tuple[int, list[str]]:
    if not title:
        return 0, []
    lines = wrapped(title, font(text_px + 3, is_bold=True), width_px, max_lines=2)
    return round(len(lines) * (text_px + 3) * 1.35) + text_px // 2, lines


def _draw_title(draw: ImageDraw.ImageDraw, lines: list[str], left_px: int, text_px: int) -> None:
    for number, line in enumerate(lines):
        top = text_px // 2 + round(number * (text_px + 3) * 1.35)
        draw.text((left_px, top), line, font=font(text_px + 3, is_bold=True), fill=INK)


def _empty_sheet(tile_px: int, title: str | None) -> Image.Image:
    width = max(2 * tile_px, 240)
    head, lines = _title_block(title, width - 16, 12)
    sheet = Image.new("RGB", (width, head + 48), GROUND)
    draw = ImageDraw.Draw(sheet)
    _draw_title(draw, lines, 8, 12)
    draw.text((width / 2, head + 24), "no pictures", font=font(12), fill=MUTED_INK, anchor="mm")
    return sheet
