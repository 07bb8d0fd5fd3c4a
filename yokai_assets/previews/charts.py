"""Small, calm charts: lines, a histogram, bars.

The look of numbers only; computing them belongs to the stages. Figures are objects of their own: pyplot, with
its process-wide state, is never touched, so charts may be drawn in threads.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from yokai_assets.frames.decoding import open_image

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PALETTE = ("#2f6f9f", "#d9743a", "#4f9a63", "#8a5fa8", "#b8912b", "#b5505e", "#5b8f97", "#7a6a58")
"""Line and bar colours, in order of use."""

_INK = "#34322f"
_MUTED = "#7a7670"
_GRID = "#e4e1da"
_DOTS_PER_INCH = 100


def line_chart(
    series: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    title: str = "",
    x_label: str = "",
    y_label: str = "",
    bands: Mapping[str, tuple[ArrayLike, ArrayLike]] | None = None,
    levels: Mapping[str, float] | None = None,
    marks: Mapping[str, float] | None = None,
    width_px: int = 640,
    height_px: int = 320,
) -> Image.Image:
    """Draw one line per series.

    Args:
        series: Name -> (x, y), each of shape [N]; non-finite y leave a gap.
        title: Heading.
        x_label: Meaning and unit of x.
        y_label: Meaning and unit of y.
        bands: Name of a series -> (low, high), each [N]: an interval drawn around it.
        levels: Name -> y of a dashed horizontal line, e.g. an upper yardstick.
        marks: Name -> x of a dotted vertical line, e.g. the chosen step.
        width_px: Width of the picture.
        height_px: Height of the picture.

    Returns:
        RGB picture.
    """
    with _figure(title, x_label, y_label, width_px, height_px) as (axes, finish):
        for number, (name, (x, y)) in enumerate(series.items()):
            x_values, y_values = np.asarray(x, float), np.asarray(y, float)
            color = PALETTE[number % len(PALETTE)]
            marker = "o" if len(x_values) <= 12 else None
            axes.plot(x_values, y_values, color=color, label=name, linewidth=1.8, marker=marker, markersize=4)
            if bands and name in bands:
                low, high = bands[name]
                axes.fill_between(
                    x_values, np.asarray(low, float), np.asarray(high, float), color=color, alpha=0.16, lw=0
                )
        for name, level in (levels or {}).items():
            axes.axhline(level, color=_MUTED, linewidth=1.1, linestyle=(0, (5, 3)), label=name)
        for name, place in (marks or {}).items():
            axes.axvline(place, color=_INK, linewidth=1.1, linestyle=":", label=name)
        has_legend = len(series) + len(levels or {}) + len(marks or {}) > 1
        return finish(has_legend)


def histogram(
    values: ArrayLike,
    *,
    title: str = "",
    x_label: str = "",
    y_label: str = "count",
    bins: int | Sequence[float] = 30,
    marks: Mapping[str, float] | None = None,
    width_px: int = 480,
    height_px: int = 280,
) -> Image.Image:
    """Draw how often values occur.

    Args:
        values: [N]; non-finite ones are left out, and none at all give an empty chart.
        title: Heading.
        x_label: Meaning and unit of the values.
        y_label: What is counted.
        bins: Number of bins, or their edges.
        marks: Name -> value of a dotted vertical line, e.g. a threshold.
        width_px: Width of the picture.
        height_px: Height of the picture.

    Returns:
        RGB picture.
    """
    found = np.asarray(values, float).ravel()
    found = found[np.isfinite(found)]
    with _figure(title, x_label, y_label, width_px, height_px) as (axes, finish):
        if found.size:
            axes.hist(found, bins=bins, color=PALETTE[0], edgecolor="white", linewidth=0.6)  # pyright: ignore[reportArgumentType]
        for name, place in (marks or {}).items():
            axes.axvline(place, color=_INK, linewidth=1.1, linestyle=":", label=name)
        return finish(bool(marks))


def bar_chart(
    values: Mapping[str, float],
    *,
    title: str = "",
    value_label: str = "",
    intervals: Mapping[str, tuple[float, float]] | None = None,
    is_horizontal: bool = True,
    colors: Mapping[str, str] | None = None,
    width_px: int = 480,
    height_px: int | None = None,
) -> Image.Image:
    """Draw one bar per name, in the order given (horizontal: the first on top).

    Args:
        values: Name -> length of the bar.
        title: Heading.
        value_label: Meaning and unit of the values.
        intervals: Name -> (low, high), drawn as a whisker.
        is_horizontal: Names at the left; else below.
        colors: Name -> CSS colour of its bar; others get the first of `PALETTE`.
        width_px: Width of the picture.
        height_px: Height of the picture; unset: what the bars need.

    Returns:
        RGB picture.
    """
    names = list(values)
    heights = np.asarray([values[name] for name in names], float)
    if height_px is None:
        height_px = 110 + 26 * max(len(names), 1) if is_horizontal else 300
    whiskers = _whiskers(names, heights, intervals)
    fills = [(colors or {}).get(name, PALETTE[0]) for name in names]
    labels = ("", value_label) if not is_horizontal else (value_label, "")
    with _figure(title, *labels, width_px, height_px) as (axes, finish):
        places = np.arange(len(names))
        style: dict[str, Any] = {
            "color": fills,
            "ecolor": _INK,
            "capsize": 2.5,
            "error_kw": {"elinewidth": 1.1},
        }
        if is_horizontal:
            axes.barh(places, heights, height=0.68, xerr=whiskers, **style)
            axes.set_yticks(places, names)
            axes.invert_yaxis()
            axes.grid(axis="y", visible=False)
        else:
            axes.bar(places, heights, width=0.68, yerr=whiskers, **style)
            axes.set_xticks(
                places,
                names,
                rotation=35 if max(map(len, names), default=0) > 8 else 0,
                ha="right" if max(map(len, names), default=0) > 8 else "center",
            )
            axes.grid(axis="x", visible=False)
        return finish(False)


def scatter_chart(
    groups: Mapping[str, tuple[ArrayLike, ArrayLike]],
    others: tuple[ArrayLike, ArrayLike],
    *,
    title: str = "",
    width_px: int = 720,
    height_px: int = 520,
) -> Image.Image:
    """Draw points on a plane whose axes mean nothing: a colour per group, its number at its middle, others grey.

    Args:
        groups: Name -> x and y of its points. Colours come again after eight; numbers tell them apart.
        others: x and y of what belongs to no group.
        title: A line above.
        width_px: Width.
        height_px: Height.
    """
    with _figure(title, "", "", width_px, height_px) as (axes, finish):
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.scatter(*map(np.asarray, others), s=5, color=_GRID, linewidths=0)
        for place, (name, (xs, ys)) in enumerate(groups.items()):
            colour = PALETTE[place % len(PALETTE)]
            axes.scatter(np.asarray(xs), np.asarray(ys), s=9, color=colour, alpha=0.7, linewidths=0)
            axes.text(
                float(np.median(np.asarray(xs))), float(np.median(np.asarray(ys))), name.rpartition(" ")[2],
                color=_INK, fontsize=8.5, fontweight="bold", ha="center", va="center",
            )  # fmt: skip
        return finish(has_legend=False)


def heat_map(names: Sequence[str], values: np.ndarray, *, title: str = "", across: str = "") -> Image.Image:
    """Draw a square matrix f64 [N, N], rows and columns named; numbers stand in the cells of up to twelve.

    Args:
        names: N names, of rows and columns.
        values: What is drawn; NaN stays empty.
        title: Heading.
        across: What the columns are.
    """
    count = len(names)
    side_px = min(1400, 220 + count * (60 if count <= 12 else 24))
    with _figure(title, across, "LoRA of", side_px + 60, side_px) as (axes, finish):
        axes.grid(visible=False)
        image = axes.imshow(values, cmap="YlGnBu", aspect="auto")
        axes.figure.colorbar(image, ax=axes, shrink=0.7).ax.tick_params(colors=_MUTED, labelsize=8, length=0)
        if count <= 60:
            axes.set_xticks(range(count), names, rotation=90)
            axes.set_yticks(range(count), names)
        middle = float(np.nanmean(values)) if np.isfinite(values).any() else 0.0
        for row, column in np.ndindex(values.shape) if count <= 12 else ():
            value = values[row, column]
            if np.isfinite(value):
                colour = "white" if value > middle else _INK
                axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=colour)
        return finish(has_legend=False)


def _whiskers(
    names: list[str], heights: np.ndarray, intervals: Mapping[str, tuple[float, float]] | None
) -> np.ndarray | None:
    if not intervals:
        return None
    ends = np.asarray([intervals.get(name, (np.nan, np.nan)) for name in names], float).reshape(len(names), 2)
    return np.clip(np.stack([heights - ends[:, 0], ends[:, 1] - heights]), 0, None)


@contextmanager
def _figure(title: str, x_label: str, y_label: str, width_px: int, height_px: int) -> Iterator[tuple["Axes", Any]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(
        figsize=(width_px / _DOTS_PER_INCH, height_px / _DOTS_PER_INCH),
        dpi=_DOTS_PER_INCH,
        layout="constrained",
    )
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_GRID)
    axes.tick_params(colors=_MUTED, labelsize=8, length=0)
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel(x_label, color=_MUTED, fontsize=8.5)
    axes.set_ylabel(y_label, color=_MUTED, fontsize=8.5)
    if title:
        axes.set_title(title, loc="left", color=_INK, fontsize=10.5, fontweight="bold")

    def finish(has_legend: bool) -> Image.Image:
        if has_legend:
            axes.legend(frameon=False, fontsize=8, labelcolor=_INK)
        buffer = io.BytesIO()
        canvas.print_png(buffer)
        return open_image(buffer).convert("RGB")

    yield axes, finish
