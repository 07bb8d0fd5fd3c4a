"""Charts as numbers for SVG templates, which follow the page's colours in light and dark.

Scaling and thinning only; the SVG is written by `templates/macros.html.j2`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

_MAX_POINTS = 300
_WIDTH, _HEIGHT = 640, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 12, 30


@dataclass(frozen=True, slots=True)
class Line:
    """A line: its name and its points as SVG wants them."""

    name: str
    points: str


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark of an axis: position in the drawing and label."""

    position: float
    label: str


@dataclass(frozen=True, slots=True)
class LineChart:
    """A line chart in a drawing of `width` x `height`; the plot area lies inside `left`, `top`, `right`, `bottom`."""

    lines: list[Line]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    mark: Tick | None = None
    width: int = _WIDTH
    height: int = _HEIGHT
    left: int = _LEFT
    top: int = _TOP
    right: int = _WIDTH - _RIGHT
    bottom: int = _HEIGHT - _BOTTOM


@dataclass(frozen=True, slots=True)
class IntervalRow:
    """A mean with its interval, as percentages of the chart's width, and the numbers in words."""

    name: str
    low: float
    mean: float
    high: float
    text: str
    kind: str


def line_chart(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, mark: tuple[str, float] | None = None
) -> LineChart | None:
    """Return a chart of lines (x, y); None where there is nothing finite to draw.

    Args:
        series: Name -> x and y of a line.
        mark: Label and x of a vertical line; left out where it is not within the lines.

    Long lines are averaged over neighbouring points. The y axis ends at the 99th percentile, so that one spike does
    not flatten the rest; what is beyond it is drawn at the edge.
    """
    cleaned = {name: _thin(*_finite(x, y)) for name, (x, y) in series.items()}
    cleaned = {name: pair for name, pair in cleaned.items() if len(pair[0])}
    if not cleaned:
        return None
    x_all = np.concatenate([x for x, _ in cleaned.values()])
    y_all = np.concatenate([y for _, y in cleaned.values()])
    x_low, x_high = float(x_all.min()), float(x_all.max())
    y_low, y_high = min(0.0, float(y_all.min())), float(np.quantile(y_all, 0.99))
    x_span, y_span = max(x_high - x_low, 1e-9), max(y_high - y_low, 1e-9) * 1.05

    def place(x: np.ndarray, y: np.ndarray) -> str:
        left = _LEFT + (x - x_low) / x_span * (_WIDTH - _LEFT - _RIGHT)
        share = np.clip((y - y_low) / y_span, 0, 1)
        top = _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)
        return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(left, top, strict=True))

    def across(x: float) -> float:
        return _LEFT + (x - x_low) / x_span * (_WIDTH - _LEFT - _RIGHT)

    x_marks = np.unique(np.linspace(x_low, x_high, 5).round())
    y_marks = np.linspace(y_low, y_low + y_span, 4)
    return LineChart(
        lines=[Line(name, place(x, y)) for name, (x, y) in cleaned.items()],
        x_ticks=[Tick(across(at), f"{at:,.0f}") for at in x_marks],
        y_ticks=[
            Tick(_HEIGHT - _BOTTOM - (at - y_low) / y_span * (_HEIGHT - _TOP - _BOTTOM), f"{at:.2g}") for at in y_marks
        ],
        mark=Tick(across(mark[1]), mark[0]) if mark and x_low <= mark[1] <= x_high else None,
    )


def interval_rows(rows: Sequence[tuple[str, float, float, float, str]]) -> list[IntervalRow]:
    """Return rows (name, low, mean, high, kind) on one common scale with a little room at both ends."""
    if not rows:
        return []
    low, high = min(row[1] for row in rows), max(row[3] for row in rows)
    margin = max(high - low, 1e-6) * 0.06
    start, span = low - margin, max(high - low, 1e-6) + 2 * margin

    def percent(value: float) -> float:
        return round((value - start) / span * 100, 2)

    return [
        IntervalRow(name, percent(a), percent(mean), percent(b), f"{mean:.3f} ({a:.3f}–{b:.3f})", kind)
        for name, a, mean, b, kind in rows
    ]


def _finite(x: Sequence[float], y: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    xs, ys = np.asarray(x, float), np.asarray(y, float)
    is_finite = np.isfinite(xs) & np.isfinite(ys)
    return xs[is_finite], ys[is_finite]


def _thin(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if len(x) <= _MAX_POINTS:
        return x, y
    parts = np.array_split(np.arange(len(x)), _MAX_POINTS)
    return np.array([x[part].mean() for part in parts]), np.array([y[part].mean() for part in parts])
