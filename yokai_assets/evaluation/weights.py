"""The weight to suggest: the chosen checkpoint drawn at several weights, judged by the score that chose it.

A LoRA is judged at weight 1; people use others. Fewer seeds than for checkpoints do here, and every weight is compared
on the same ones.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from yokai_assets.evaluation.choice import score_checkpoint
from yokai_assets.evaluation.grid import GridCell
from yokai_assets.evaluation.judging import DrawnGrid, Judge
from yokai_assets.evaluation.record import WeightRecord
from yokai_assets.evaluation.rounds import FULL_WEIGHT, Round


@dataclass(frozen=True, slots=True)
class TriedWeights:
    """What came of the weights that were tried, in ascending order.

    Attributes:
        suggested: The weight with the best score; of equal ones the nearest to 1.
        rows: Scores and measures.
        cells: What was drawn at each weight.
        shown: A few pictures per weight; none of weight 1, which is drawn already.
    """

    suggested: float
    rows: list[WeightRecord]
    cells: list[GridCell]
    shown: dict[float, list[Image.Image]]


def weight_cells(cells: Sequence[GridCell], images_per_weight: int) -> list[int]:
    """Return the indices of the first seeds of every prompt."""
    seeds = sorted({cell.seed for cell in cells})[:images_per_weight]
    return [index for index, cell in enumerate(cells) if cell.seed in seeds]


def try_weights(
    weights: Sequence[float],
    images_per_weight: int,
    chosen: DrawnGrid,
    base: DrawnGrid,
    judge: Judge,
    draw: Callable[[Sequence[GridCell], float], Round],
) -> TriedWeights:
    """Draw and judge the chosen checkpoint at each weight.

    Args:
        weights: What to try; without any, or with 1 alone, nothing is drawn.
        images_per_weight: Seeds per prompt.
        chosen: The checkpoint's pictures at weight 1.
        base: The base model's pictures of the same cells.
        judge: Judges a grid against that of the base model.
        draw: Draws cells at a weight.
    """
    others = sorted(set(weights) - {FULL_WEIGHT})
    if not others:
        return TriedWeights(FULL_WEIGHT, [], [], {})
    indices = weight_cells(chosen.cells, images_per_weight)
    cells, few_of_base = [chosen.cells[index] for index in indices], base.only(indices)
    grids, shown = {FULL_WEIGHT: chosen.only(indices)} if FULL_WEIGHT in weights else {}, {}
    for weight in others:
        drawn = draw(cells, weight)
        grids[weight], shown[weight] = drawn.grid, drawn.shown
    rows: list[WeightRecord] = []
    for weight in sorted(grids):
        row = judge.of(1, None, grids[weight], few_of_base)
        score = score_checkpoint(judge.judgement(row))
        following = row.prompt_following
        rows.append(
            WeightRecord(
                weight=weight,
                score=score.total,
                score_parts=score.parts,
                covered_share=row.covered_share,
                identification=row.identification.mean,
                prompt_following=following.mean if following else None,
            )
        )
    best = max(rows, key=lambda row: (round(row.score, 9), -abs(row.weight - FULL_WEIGHT), -row.weight))
    return TriedWeights(best.weight, rows, cells, shown)


def reason_of(tried: TriedWeights) -> str:
    """Say in words which weight is suggested and why."""
    if not tried.rows:
        return "No weight but 1.0 was tried."
    scores = {row.weight: row.score for row in tried.rows}
    words = f"Weight {tried.suggested:g} has the best score ({scores[tried.suggested]:.3f}) of {len(scores)} tried"
    at_full = scores.get(FULL_WEIGHT)
    if at_full is None or tried.suggested == FULL_WEIGHT:
        return f"{words}; range {min(scores.values()):.3f} to {np.max(list(scores.values())):.3f}."
    return f"{words}; at weight 1 it is {at_full:.3f}."
