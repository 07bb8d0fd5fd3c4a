"""Every LoRA against every character, put in order for pages: who is whose, and the matrix as one small drawing.

Numbers are `LORA_COMPARISONS`, measured by `yokai_assets.evaluation.crossing`; the SVG is written by templates.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from yokai_assets.evaluation.crossing import matrix_of
from yokai_assets.gallery.charts import IntervalRow, interval_rows

_SHADES = 8
_MAX_RIVALS = 3


@dataclass(frozen=True, slots=True)
class Standing:
    """How a character's own LoRA stands among all, at its real images.

    Attributes:
        character_id: The character.
        own: Cosine of its own LoRA's pictures; None where it has no judged LoRA.
        rival_id: The other character whose LoRA comes nearest, if there is one.
        rival: Its cosine.
        recognised_share: Share of its own LoRA's pictures that are recognised as it (0-1).
    """

    character_id: str
    own: float | None
    rival_id: str | None
    rival: float | None
    recognised_share: float | None

    @property
    def margin(self) -> float | None:
        """By how much its own LoRA is ahead; negative: behind."""
        return None if self.own is None or self.rival is None else self.own - self.rival

    @property
    def is_taken(self) -> bool:
        """Whether another LoRA resembles it as much as its own."""
        return self.margin is not None and self.margin <= 0


@dataclass(frozen=True, slots=True)
class HeatMap:
    """The matrix as a drawing of `side` x `side` units, a unit a cell; LoRAs down, characters across.

    Attributes:
        names: Characters, in order of rows and columns.
        shades: Path of all cells of each shade, palest first: a hundred characters are ten thousand cells.
        own: Path of the cells where a LoRA meets its own character.
        rows: Cosines by row for the read-out, None where a pair was not compared.
        recognised: Shares of a LoRA's pictures recognised as the character.
        low: Cosine of the palest shade.
        high: Cosine of the darkest.
    """

    names: list[str]
    shades: list[str]
    own: str
    rows: list[list[float | None]]
    recognised: list[list[float | None]]
    low: float
    high: float

    @property
    def side(self) -> int:
        """Cells of a row."""
        return len(self.names)

    @property
    def cell_px(self) -> int:
        """Width of a cell on a page."""
        return min(40, max(8, 760 // self.side))

    @property
    def has_labels(self) -> bool:
        """Whether rows are high enough for names."""
        return self.cell_px >= 16


def standings(table: pl.DataFrame) -> list[Standing]:
    """Return how each character's LoRA stands, the least clear ones first."""
    found = []
    for (character_id,), rows in table.group_by("character_id"):
        by_lora = {row["lora_character_id"]: row for row in rows.iter_rows(named=True)}
        own = by_lora.pop(character_id, None)
        rival = max(by_lora.values(), key=lambda row: (row["resemblance"], row["lora_character_id"]), default=None)
        found.append(
            Standing(
                str(character_id),
                own["resemblance"] if own else None,
                rival["lora_character_id"] if rival else None,
                rival["resemblance"] if rival else None,
                own["recognised_share"] if own else None,
            )
        )
    return sorted(found, key=lambda s: (s.margin if s.margin is not None else 9.0, s.character_id))


def nearest_loras(table: pl.DataFrame, character_id: str, titles: Mapping[str, str]) -> list[IntervalRow]:
    """Return a character's own LoRA and the others that come nearest to its real images, on one scale.

    Args:
        table: `LORA_COMPARISONS`.
        character_id: Whose real images.
        titles: What characters are called.
    """
    rows = table.filter(character_id=character_id).sort("resemblance", descending=True).to_dicts()
    others = [row for row in rows if row["lora_character_id"] != character_id][:_MAX_RIVALS]
    own = [row for row in rows if row["lora_character_id"] == character_id]
    if not own or not others:
        return []
    return interval_rows(
        [
            (
                "its own LoRA" if row in own else f"LoRA of {titles.get(row['lora_character_id'], '?')}",
                row["resemblance_low"],
                row["resemblance"],
                row["resemblance_high"],
                "chosen" if row in own else "other",
            )
            for row in (*own, *others)
        ]
    )


def heat_map(table: pl.DataFrame) -> HeatMap | None:
    """Return the drawing of the matrix; None for fewer than two characters."""
    names, values = matrix_of(table, "resemblance")
    if len(names) < 2:
        return None
    _, recognised = matrix_of(table, "recognised_share")
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    share = (values - low) / max(high - low, 1e-9)
    shade = np.where(np.isnan(share), -1, np.clip(share * _SHADES, 0, _SHADES - 1)).astype(int)
    return HeatMap(
        names=names,
        shades=[_cells(shade == number) for number in range(_SHADES)],
        own=_cells(np.eye(len(names), dtype=bool)),
        rows=_plain(values),
        recognised=_plain(recognised),
        low=low,
        high=high,
    )


def _cells(is_drawn: np.ndarray) -> str:
    """Return an SVG path of unit cells with a hair's breadth between them."""
    return "".join(f"M{column + 0.04:g} {row + 0.04:g}h.92v.92h-.92z" for row, column in np.argwhere(is_drawn))


def _plain(matrix: np.ndarray) -> list[list[float | None]]:
    return [[None if np.isnan(value) else round(float(value), 3) for value in row] for row in matrix]
