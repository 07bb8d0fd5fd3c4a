"""The font of labels and titles, and text that fits its place.

One typeface for all previews. Laying text out on a picture belongs to the drawing modules.
"""

from functools import cache
from pathlib import Path

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@cache
def font(size_px: int, is_bold: bool = False) -> Font:
    """Return DejaVu Sans (it comes with matplotlib) at `size_px`, else Pillow's own font."""
    import matplotlib

    name = "DejaVuSans-Bold.ttf" if is_bold else "DejaVuSans.ttf"
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name
    try:
        return ImageFont.truetype(str(path), size_px)
    except OSError:
        return ImageFont.load_default(size_px)


def fitted(text: str, face: Font, max_width_px: float) -> str:
    """Return `text`, shortened with an ellipsis where it is wider than `max_width_px`."""
    if face.getlength(text) <= max_width_px:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if face.getlength(text[:middle].rstrip() + "…") <= max_width_px:
            low = middle
        else:
            high = middle - 1
    return text[:low].rstrip() + "…"


def wrapped(text: str, face: Font, max_width_px: float, max_lines: int) -> list[str]:
    """Break `text` at spaces into at most `max_lines` lines of `max_width_px`; the last may be shortened."""
    lines: list[str] = []
    words = text.split()
    while words and len(lines) < max_lines:
        line = words.pop(0)
        while words and face.getlength(f"{line} {words[0]}") <= max_width_px:
            line = f"{line} {words.pop(0)}"
        if len(lines) == max_lines - 1 and words:
            line = " ".join([line, *words])
            words = []
        lines.append(fitted(line, face, max_width_px))
    return lines
