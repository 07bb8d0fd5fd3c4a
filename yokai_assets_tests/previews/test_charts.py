"""Charts have the size asked for, show what they are given and leave no state behind."""

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image, ImageChops

from yokai_assets.previews import bar_chart, histogram, line_chart


def differ(a: Image.Image, b: Image.Image) -> bool:
    return ImageChops.difference(a, b).getbbox() is not None


def test_lines_bands_levels_and_marks_are_drawn() -> None:
    """Protects: each part of the chart reaches the picture."""
    series = {"loss": ([0, 1, 2], [1.0, 0.5, np.nan])}
    plain = line_chart(series, width_px=300, height_px=200)
    assert plain.size == (300, 200)
    assert differ(plain, line_chart(series, bands={"loss": ([0, 0, 0], [1, 1, 1])}, width_px=300, height_px=200))
    assert differ(plain, line_chart(series, levels={"real": 0.7}, width_px=300, height_px=200))
    assert differ(plain, line_chart(series, marks={"chosen": 1}, width_px=300, height_px=200))


def test_empty_and_non_finite_values_draw_an_empty_chart() -> None:
    """Protects: a stage without numbers still gets its picture."""
    assert line_chart({}).size == (640, 320)
    assert histogram([np.nan, np.inf]).size == (480, 280)
    assert histogram([]).size == (480, 280)
    assert bar_chart({}).width == 480


def test_longer_bars_colour_more() -> None:
    """Protects: bars follow their values, also beside names of any length."""

    def filled(value: float) -> int:
        picture = bar_chart({"a rather long name": value, "full": 1.0}, colors={"a rather long name": "#ff0000"})
        pixels = np.asarray(picture).astype(int)
        return int(((pixels[..., 0] > 200) & (pixels[..., 1] < 60)).sum())

    assert filled(0.8) > 1.8 * filled(0.4) > 0


def test_interval_may_lie_apart_from_its_bar() -> None:
    """Protects: a bootstrap interval that excludes its mean is drawn, not refused."""
    assert bar_chart({"a": 0.5}, intervals={"a": (0.6, 0.7)}, is_horizontal=False).size == (480, 300)


def test_pyplot_is_not_used() -> None:
    """Protects: drawing from threads; pyplot keeps every figure in one list of the process."""
    with ThreadPoolExecutor(4) as pool:
        pictures = list(pool.map(lambda _: histogram([1, 2, 2, 3]), range(8)))
    assert not any(differ(pictures[0], other) for other in pictures[1:])
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
