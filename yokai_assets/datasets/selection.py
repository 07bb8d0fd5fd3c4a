"""Which images are worth training on: quality first, then no near-duplicates, then a diverse subset.

Tables and vectors only; no pixels are read. Holding out is `split`.
"""

import math
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from yokai_assets.analysis.diversity import farthest_first
from yokai_assets.embedding.instances import vector_matrix

_GOLDEN_RATIO = (math.sqrt(5) - 1) / 2

REASONS = {
    "no_instance": "member without an instance or a vector: its episode has to be made again",
    "too_small": "narrower or lower than `dataset.min_side_px`",
    "cut_off": "too much of it lies beyond the frame's edge",
    "several_figures": "of more thick parts than the character usually has: most likely somebody touches it",
    "blurred": "far less sharp than the character usually is",
    "extreme_aspect": "far wider or far higher than a character is: most likely a piece of scenery",
    "atypical": "unlike the character's other images: most likely somebody else",
    "near_duplicate": "hardly differs from an image that is kept",
    "not_selected": "others show more variety (`dataset.max_images`)",
    "unreadable": "the cut-out is missing, damaged or not as large as its box",
    "low_resolution": "far smaller than what training wants, and enough larger ones are there",
}
"""Why an image is left out, in words."""


@dataclass(frozen=True, slots=True)
class QualityLimits:
    """Limits that an image must keep.

    Attributes:
        max_edge_contact_share: Share of the box's outline that may lie on the frame's edge (0-1): a figure that the
            lower edge cuts at the hip has about a fifth to a third.
        min_sharpness_ratio: Sharpness over the character's own median.
        max_aspect_ratio: Longer over shorter side.
        max_outlier_spread: Inter-quartile ranges below the first quartile of the cosines to the centroid, from which
            an image is no typical one (Tukey's outer fence is 3).
        near_duplicate_ratio: Cosine distance over the character's median distance between images, below which two
            are near-duplicates: relative, because models spread one character's images differently.
        min_duplicate_distance: Cosine distance below which two images always are near-duplicates.
        min_training_area_share: Area of the box over that of training, below which an image is not taken while there
            are enough larger ones: 1/16 is a quarter of the side.
        pool_per_image: Candidates kept for each image wanted, before distances are computed.
    """

    max_edge_contact_share: float = 0.4
    min_sharpness_ratio: float = 0.15
    max_aspect_ratio: float = 4.0
    max_outlier_spread: float = 3.0
    near_duplicate_ratio: float = 0.1
    min_duplicate_distance: float = 0.0005
    min_training_area_share: float = 1 / 16
    pool_per_image: int = 20


@dataclass(slots=True)
class Selection:
    """Candidates that are left, their unit vectors f32 [N, D], and how many were dropped for which reason."""

    rows: pl.DataFrame
    vectors: NDArray[np.float32]
    dropped: Counter[str] = field(default_factory=Counter)

    def keep(self, positions: NDArray[np.integer] | list[int], reason: str) -> "Selection":
        """Return the selection of these positions; the others are counted under `reason`."""
        kept = np.asarray(positions, np.int64)
        dropped = self.dropped.copy()
        if len(kept) < self.rows.height:
            dropped[reason] += self.rows.height - len(kept)
        return Selection(self.rows[kept], self.vectors[kept], dropped)


def candidates(
    character_id: str, members: pl.DataFrame, instances: pl.DataFrame, embeddings: pl.DataFrame
) -> Selection:
    """Join a character's members with their instances and vectors, the best images first.

    Best means: large, typical, not cut off.
    """
    own = members.filter(pl.col("character_id") == character_id)
    rows = (
        own.select("instance_id", "probability", "centroid_cosine")
        .join(instances, on="instance_id")
        .join(embeddings.select("instance_id", "vector"), on="instance_id")
        .with_columns(side_px=pl.min_horizontal(pl.col("x1") - pl.col("x0"), pl.col("y1") - pl.col("y0")))
    )
    goodness = (
        pl.col("side_px").rank() + pl.col("centroid_cosine").rank() - pl.col("edge_contact_share").rank("average")
    )
    rows = rows.with_columns(goodness=goodness).sort("goodness", "instance_id", descending=[True, False])
    dropped = Counter({"no_instance": own.height - rows.height}) if own.height > rows.height else Counter()
    return Selection(rows.drop("vector", "goodness"), vector_matrix(rows.select("vector")), dropped)


def passing_quality(selection: Selection, min_side_px: int, limits: QualityLimits) -> Selection:
    """Drop images that would teach the wrong thing; the first reason that applies is counted."""
    rows = selection.rows
    if rows.is_empty():
        return selection
    width, height = pl.col("x1") - pl.col("x0"), pl.col("y1") - pl.col("y0")
    aspect = pl.max_horizontal(width, height) / pl.min_horizontal(width, height).clip(1)
    cosines = rows["centroid_cosine"].to_numpy()
    low, high = np.percentile(cosines, [25, 75])
    verdict = rows.select(
        pl.when(pl.col("side_px") < min_side_px)
        .then(pl.lit("too_small"))
        .when(pl.col("edge_contact_share") > limits.max_edge_contact_share)
        .then(pl.lit("cut_off"))
        .when(pl.col("lobe_count") > pl.col("lobe_count").median())
        .then(pl.lit("several_figures"))
        .when(aspect > limits.max_aspect_ratio)
        .then(pl.lit("extreme_aspect"))
        .when(pl.col("sharpness") < limits.min_sharpness_ratio * pl.col("sharpness").median())
        .then(pl.lit("blurred"))
        .when(pl.col("centroid_cosine") < low - limits.max_outlier_spread * max(high - low, 0.01))
        .then(pl.lit("atypical"))
    ).to_series()
    passed = selection.keep(np.flatnonzero(verdict.is_null().to_numpy()), "")
    passed.dropped = selection.dropped + Counter(verdict.drop_nulls().to_list())
    return passed


def within_pool(selection: Selection, most: int) -> Selection:
    """Bound the work on a leading character with many thousand images.

    Rows are taken in turns, evenly over episodes, and within an episode evenly over its shots, the best first: there
    may be more shots than places.
    """
    if selection.rows.height <= most:
        return selection
    turns = (
        selection.rows.select("episode", "shot")
        .with_row_index("position")
        .with_columns(turn_of_shot=pl.col("position").cum_count().over("episode", "shot"))
        .sort("turn_of_shot", "position")
        .with_columns(turn=pl.col("position").cum_count().over("episode"))
        .sort("turn", "turn_of_shot", "position")
    )
    return selection.keep(turns["position"].head(most).sort().to_numpy(), "not_selected")


def large_enough(selection: Selection, count: int, resolution_px: int, limits: QualityLimits) -> Selection:
    """Drop images far smaller than training wants, if at least `count` others are there.

    Small pictures differ most from all others, for want of detail: a diverse subset would be full of them.
    """
    area = (pl.col("x1") - pl.col("x0")) * (pl.col("y1") - pl.col("y0"))
    is_large = selection.rows.select(area >= limits.min_training_area_share * resolution_px**2).to_series().to_numpy()
    return selection.keep(np.flatnonzero(is_large), "low_resolution") if is_large.sum() >= count else selection


def without_near_duplicates(selection: Selection, limits: QualityLimits) -> Selection:
    """Drop every image that is nearly the same as a better one that is kept; time is quadratic in the images.

    The kept ones are pairwise no near-duplicates, so no later split can put one on each side.
    """
    count = len(selection.vectors)
    if count < 2:
        return selection
    limit = max(limits.near_duplicate_ratio * _median_distance(selection.vectors), limits.min_duplicate_distance)
    contents = selection.rows["cutout_sha256"].to_list()
    taken = np.empty_like(selection.vectors)
    positions: list[int] = []
    seen: set[str] = set()
    for position, vector in enumerate(selection.vectors):
        nearest = float((taken[: len(positions)] @ vector).max()) if positions else -1.0
        if contents[position] in seen or 1 - nearest < limit:
            continue
        taken[len(positions)] = vector
        positions.append(position)
        seen.add(contents[position])
    return selection.keep(positions, "near_duplicate")


def _median_distance(vectors: NDArray[np.float32], sample: int = 600) -> float:
    some = vectors[:: -(-len(vectors) // sample)]
    distances = 1 - some @ some.T
    return float(np.median(distances[np.triu_indices(len(some), 1)])) if len(some) > 1 else 0.0


def diverse(selection: Selection, count: int) -> Selection:
    """Keep `count` images that differ as much as possible, evenly over episodes.

    Where there are more episodes than places, those that get one are spread over the series (the golden ratio's
    multiples are): the earlier ones alone would show the character as it once looked.
    """
    if selection.rows.height <= count:
        return selection
    episodes = selection.rows["episode"].rank("dense").to_numpy().astype(np.int64) - 1
    order = np.argsort(np.argsort(np.arange(episodes.max() + 1) * _GOLDEN_RATIO % 1))
    episodes = order[episodes]
    return selection.keep(farthest_first(selection.vectors, count, episodes), "not_selected")


def shot_numbers(rows: pl.DataFrame) -> NDArray[np.int64]:
    """Return a number per row, equal for rows of one shot of one episode."""
    return rows.select(pl.struct("episode", "shot").rank("dense")).to_series().to_numpy().astype(np.int64)
