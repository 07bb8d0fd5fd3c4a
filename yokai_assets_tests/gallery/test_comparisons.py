"""Every LoRA against every character, put in order for pages."""

import polars as pl
import pytest

from yokai_assets.gallery.comparisons import heat_map, nearest_loras, standings
from yokai_assets.tables import LORA_COMPARISONS


def table(values: dict[tuple[str, str], float]) -> pl.DataFrame:
    return LORA_COMPARISONS.from_rows(
        {
            "lora_character_id": lora, "character_id": character, "step": 1, "image_count": 4, "resemblance": value,
            "resemblance_low": value - 0.01, "resemblance_high": value + 0.01, "covered_share": None,
            "recognised_share": float(lora == character),
        }
        for (lora, character), value in values.items()
    )  # fmt: skip


CLEAR = {("a", "a"): 0.9, ("b", "a"): 0.5, ("a", "b"): 0.7, ("b", "b"): 0.6}


def test_the_least_clear_character_comes_first():
    """Protects the reader of a hundred rows: what is wrong stands at the top."""
    first, second = standings(table(CLEAR))
    assert (first.character_id, first.rival_id, first.is_taken) == ("b", "a", True)
    assert first.margin == pytest.approx(-0.1)
    assert (second.character_id, second.is_taken) == ("a", False)


def test_a_character_without_a_rival_or_a_lora_of_its_own_is_no_failure():
    """Protects the first character that is judged, and columns of characters whose LoRA is not."""
    alone = standings(table({("a", "a"): 0.9}))
    assert (alone[0].margin, alone[0].is_taken) == (None, False)
    foreign = standings(table({("a", "a"): 0.9, ("a", "b"): 0.7}))
    assert [(s.character_id, s.own) for s in foreign if s.own is None] == [("b", None)]
    assert standings(LORA_COMPARISONS.empty()) == []


def test_the_map_of_heat_holds_every_pair_once_and_tells_gaps():
    """Protects the drawing: a gap is no cell, and the read-out knows it."""
    heat = heat_map(table({**CLEAR, ("c", "c"): 0.8}))
    assert heat is not None and heat.names == ["a", "b", "c"]
    assert sum(path.count("z") for path in heat.shades) == 5
    assert heat.own.count("z") == 3
    assert heat.rows[0][2] is None and heat.rows[0][1] == 0.7
    assert "M0.04 0.04" in heat.shades[-1] and "M0.04 1.04" in heat.shades[0]
    assert heat_map(table({("a", "a"): 0.9})) is None


def test_own_lora_stands_before_its_rivals():
    """Protects the small chart of a character's page."""
    rows = nearest_loras(table(CLEAR), "b", {"a": "Anna"})
    assert [(row.name, row.kind) for row in rows] == [("its own LoRA", "chosen"), ("LoRA of Anna", "other")]
    assert nearest_loras(table({("a", "a"): 0.9}), "a", {}) == []
