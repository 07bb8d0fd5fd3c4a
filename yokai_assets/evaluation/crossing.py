"""Every LoRA against every character: does each draw its own character and no other?

Nothing is drawn here: the evaluations left vectors of their pictures and of their real images. One evaluation sees the
LoRAs that had been judged before it; this table sees all of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from yokai_assets.evaluation import measures
from yokai_assets.evaluation.anchors import CharacterVectors, load_vectors
from yokai_assets.evaluation.grid import EvaluationError
from yokai_assets.evaluation.record import RECORD_FILE, EvaluationRecord, load_evaluation
from yokai_assets.storage.layout import Layout
from yokai_assets.tables import LORA_COMPARISONS

_SAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Crossing:
    """Rows of `LORA_COMPARISONS`, and what could not be compared, in words."""

    table: pl.DataFrame
    problems: list[str]


def compare_loras(layout: Layout, character_ids: Sequence[str], seed: int) -> Crossing:
    """Compare the judged LoRA of every character with the real images of every character.

    Args:
        layout: Where evaluations lie.
        character_ids: Characters; those without an evaluation are left out.
        seed: Seed of the bootstrap.
    """
    records, problems = _records(layout, character_ids)
    vectors: dict[str, CharacterVectors] = {}
    for comparable in sorted({record.comparable for record in records.values()}):
        group = [name for name, record in records.items() if record.comparable == comparable]
        vectors |= load_vectors(layout, group, comparable)
    problems += [
        f"{name}: its evaluation left no readable vectors. Materialize lora_evaluation of this character again."
        for name in records
        if name not in vectors
    ]
    rows = [
        _row(lora, character, records, vectors, seed)
        for lora in vectors
        for character in vectors
        if records[lora].comparable == records[character].comparable
    ]
    return Crossing(LORA_COMPARISONS.from_rows(rows), problems)


def taken_for_others(table: pl.DataFrame) -> pl.DataFrame:
    """Return characters whose own LoRA resembles them no more than another's: `character_id`, `rival`, both cosines."""
    own = table.filter(pl.col("character_id") == pl.col("lora_character_id"))
    others = table.filter(pl.col("character_id") != pl.col("lora_character_id"))
    nearest = others.sort("resemblance", "lora_character_id", descending=[True, False]).unique(
        "character_id", keep="first", maintain_order=True
    )
    return (
        own.select("character_id", own_resemblance="resemblance")
        .join(
            nearest.select("character_id", rival="lora_character_id", rival_resemblance="resemblance"),
            on="character_id",
        )
        .filter(pl.col("rival_resemblance") >= pl.col("own_resemblance"))
        .sort("character_id")
    )


def _records(layout: Layout, character_ids: Sequence[str]) -> tuple[dict[str, EvaluationRecord], list[str]]:
    records: dict[str, EvaluationRecord] = {}
    problems: list[str] = []
    for name in sorted(character_ids):
        if not (layout.lora_tests(name) / RECORD_FILE).exists():
            continue
        try:
            records[name] = load_evaluation(layout, name)
        except EvaluationError as error:
            problems.append(str(error))
    return records, problems


def _row(
    lora: str,
    character: str,
    records: Mapping[str, EvaluationRecord],
    vectors: Mapping[str, CharacterVectors],
    seed: int,
) -> dict[str, object]:
    drawn, real = vectors[lora], vectors[character]
    values = measures.mean_cosines(drawn.drawn, real.reference)
    resemblance = measures.bootstrap_mean(values, _SAMPLES, seed)
    base, upper = float(real.base_resemblance.mean()), records[character].real_to_real.mean
    recognised = records[lora].chosen.recognised_as
    return {
        "lora_character_id": lora,
        "character_id": character,
        "step": records[lora].chosen_step,
        "image_count": len(values),
        "resemblance": resemblance.mean,
        "resemblance_low": resemblance.low,
        "resemblance_high": resemblance.high,
        "covered_share": measures.covered_share(resemblance.mean, base, upper),
        "recognised_share": recognised.get(character, 0) / max(1, sum(recognised.values())),
    }


def matrix_of(table: pl.DataFrame, column: str) -> tuple[list[str], np.ndarray]:
    """Return the characters and a column as a square matrix f64 [N, N], LoRAs down, characters across; gaps are NaN."""
    names = sorted(set(table["lora_character_id"]) | set(table["character_id"]))
    index = {name: number for number, name in enumerate(names)}
    matrix = np.full((len(names), len(names)), np.nan)
    for lora, character, value in table.select("lora_character_id", "character_id", column).iter_rows():
        matrix[index[lora], index[character]] = np.nan if value is None else value
    return names, matrix
