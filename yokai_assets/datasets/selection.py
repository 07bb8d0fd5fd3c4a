"""Which images are worth training on: quality first, then no near-duplicates, then a diverse subset.

Tables and vectors only; no pixels are read. Holding out is `split`.
"""

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from yokai_assets.analysis.diversity import farthest_first
from yokai_assets.embedding.instances import vector_matrix

_GOLDEN_RATIO = (math.sqrt(5) - 1) / 2
_CLOSE_HEIGHT = 0.75

REASONS = {
    "removed": "removed by hand (`yokai dataset edits`)",
    "no_instance": "member without an instance or a vector: its episode has to be made again",
    "too_small": "narrower or lower than `dataset.min_side_px`",
    "cut_off": "too much of it lies beyond the frame's edge",
    "several_figures": "of more thick parts than the character usually has: most likely somebody touches it",
    "overlapped": "another figure's box covers much of its own: parts may be hidden, or be the other's",
    "blurred": "far less sharp than the character usually is",
    "extreme_aspect": "far wider or far higher than a character is: most likely a piece of scenery",
    "atypical": "unlike the character's other images: most likely somebody else",
    "other_character": "more like another character than like this one",
    "near_duplicate": "hardly differs from an image that is kept",
    "not_selected": "others show more variety (`dataset.max_images`)",
    "unreadable": "the cut-out is missing, damaged or not as large as its box",
    "soft_mask": "its mask is half transparent over far more than an edge: the cut-out is not clean",
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
        max_overlap_share: Share of the box that another instance's box may cover.
        max_softness: Half-transparent pixels for each solid one, and how many times the character's own median they
            may be: cut-outs of drawn characters have .05 to .3, small ones .5; clouds 1 and more.
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
    max_overlap_share: float = 0.5
    max_softness: float = 1.0
    max_softness_ratio: float = 3.0
    max_outlier_spread: float = 3.0
    near_duplicate_ratio: float = 0.1
    min_duplicate_distance: float = 0.0005
    min_training_area_share: float = 1 / 16
    pool_per_image: int = 20


@dataclass(slots=True)
class Selection:
    """Candidates that are left, their unit vectors f32 [N, D], and why each other one was dropped.

    Attributes:
        rows: INSTANCES, with `side_px`, `centroid_cosine`, `identity_margin` (own less best other centroid cosine;
            null where there is no other character) and `overlap_share`.
        vectors: In the order of the rows.
        dropped: instance_id -> reason, one of `REASONS`.
    """

    rows: pl.DataFrame
    vectors: NDArray[np.float32]
    dropped: dict[str, str] = field(default_factory=dict)

    @property
    def counts(self) -> Counter[str]:
        """Reason -> how many were dropped for it."""
        return Counter(self.dropped.values())

    def keep(self, positions: NDArray[np.integer] | list[int], reason: str) -> "Selection":
        """Return the selection of these positions; the others are dropped for `reason`."""
        kept = np.asarray(positions, np.int64)
        gone = np.ones(self.rows.height, bool)
        gone[kept] = False
        dropped = dict.fromkeys(self.rows["instance_id"].filter(gone), reason)
        return Selection(self.rows[kept], self.vectors[kept], self.dropped | dropped)

    def without(self, reasons: Mapping[str, str]) -> "Selection":
        """Return the selection without these instances, each dropped for its own reason."""
        gone = self.rows["instance_id"].is_in(list(reasons))
        dropped = {name: reasons[name] for name in self.rows["instance_id"].filter(gone)}
        return Selection(self.rows.filter(~gone), self.vectors[(~gone).to_numpy()], self.dropped | dropped)


def candidates(
    character_id: str,
    members: pl.DataFrame,
    instances: pl.DataFrame,
    embeddings: pl.DataFrame,
    rivals: NDArray[np.float32] | None = None,
) -> Selection:
    """Join a character's members with their instances and vectors, the best images first.

    Best means: large, typical, not cut off.

    Args:
        character_id: Whom.
        members: MEMBERS; others are left out.
        instances: INSTANCES of every frame that a member is in.
        embeddings: EMBEDDINGS with the members' rows.
        rivals: Unit centroids of the other characters, f32 [R, D].
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
    lost = own.join(rows, on="instance_id", how="anti")["instance_id"]
    vectors = vector_matrix(rows.select("vector"))
    rows = rows.drop("vector", "goodness").with_columns(
        pl.Series("identity_margin", _identity_margins(vectors, rivals), pl.Float32),
        pl.Series("overlap_share", _overlap_shares(rows, instances), pl.Float32),
    )
    return Selection(rows, vectors, dict.fromkeys(lost, "no_instance"))


def _identity_margins(vectors: NDArray[np.float32], rivals: NDArray[np.float32] | None) -> NDArray | list[None]:
    if rivals is None or not len(rivals) or not len(vectors):
        return [None] * len(vectors)
    own = vectors.mean(axis=0)
    return vectors @ (own / max(float(np.linalg.norm(own)), 1e-12)) - (vectors @ rivals.T).max(axis=1)


def _overlap_shares(rows: pl.DataFrame, instances: pl.DataFrame) -> pl.Series:
    """Return the largest share of each row's box that another instance's box of the same frame covers (0-1)."""
    boxes = ("x0", "y0", "x1", "y1")
    width, height = (
        (pl.min_horizontal(f"{axis}1", f"{axis}1_other") - pl.max_horizontal(f"{axis}0", f"{axis}0_other")).clip(0)
        for axis in "xy"
    )
    area = (pl.col("x1") - pl.col("x0")) * (pl.col("y1") - pl.col("y0"))
    shares = (
        rows.select("instance_id", "frame_id", *boxes)
        .join(instances.select("instance_id", "frame_id", *boxes), on="frame_id", suffix="_other")
        .filter(pl.col("instance_id") != pl.col("instance_id_other"))
        .group_by("instance_id")
        .agg((width * height / area).max().alias("share"))
    )
    joined = rows.select("instance_id").join(shares, on="instance_id", how="left", maintain_order="left")
    return joined["share"].fill_null(0.0)


def passing_quality(
    selection: Selection, min_side_px: int, limits: QualityLimits, *, removed: Collection[str] = ()
) -> Selection:
    """Drop images that would teach the wrong thing; the first reason that applies is told.

    Args:
        selection: From `candidates`.
        min_side_px: Smallest width and height (px).
        limits: What is too bad.
        removed: `cutout_sha256` of images that a person does not want.
    """
    rows = selection.rows
    if rows.is_empty():
        return selection
    width, height = pl.col("x1") - pl.col("x0"), pl.col("y1") - pl.col("y0")
    aspect = pl.max_horizontal(width, height) / pl.min_horizontal(width, height).clip(1)
    cosines = rows["centroid_cosine"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    low, high = np.nanpercentile(cosines, [25, 75]) if np.isfinite(cosines).any() else (0.0, 0.0)
    verdict = rows.select(
        pl.when(pl.col("cutout_sha256").is_in(list(removed)))
        .then(pl.lit("removed"))
        .when(pl.col("side_px") < min_side_px)
        .then(pl.lit("too_small"))
        .when(pl.col("edge_contact_share") > limits.max_edge_contact_share)
        .then(pl.lit("cut_off"))
        .when(pl.col("lobe_count") > pl.col("lobe_count").median())
        .then(pl.lit("several_figures"))
        .when(pl.col("overlap_share") > limits.max_overlap_share)
        .then(pl.lit("overlapped"))
        .when(aspect > limits.max_aspect_ratio)
        .then(pl.lit("extreme_aspect"))
        .when(pl.col("sharpness") < limits.min_sharpness_ratio * pl.col("sharpness").median())
        .then(pl.lit("blurred"))
        .when(pl.col("centroid_cosine") < low - limits.max_outlier_spread * max(high - low, 0.01))
        .then(pl.lit("atypical"))
        .when(pl.col("identity_margin") < 0)
        .then(pl.lit("other_character"))
        .alias("reason"),
        "instance_id",
    )
    bad = verdict.drop_nulls("reason")
    return selection.without(dict(zip(bad["instance_id"], bad["reason"], strict=True)))


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


def near_duplicate_pairs(rows: pl.DataFrame, limits: QualityLimits | None = None) -> pl.DataFrame:
    """Return the pairs of images of a finished set that hardly differ.

    Half the distance is allowed that `without_near_duplicates` asks for: a chosen set is spread wider than what it
    was chosen from, so that the same rule would find pairs that are none.

    Args:
        rows: `image`, `split`, `image_sha256`, `vector`.
        limits: Quality limits; unset: the defaults.

    Returns:
        `image`, `split`, `other_image`, `other_split`, `distance`, nearest first.
    """
    limits = limits or QualityLimits()
    vectors = vector_matrix(rows.select("vector"))
    limit = max(0.5 * limits.near_duplicate_ratio * _median_distance(vectors), limits.min_duplicate_distance)
    distances = 1 - vectors @ vectors.T
    contents = rows["image_sha256"].to_numpy()
    first, second = np.nonzero(np.triu((distances < limit) | (contents[:, None] == contents[None, :]), 1))
    pairs = {
        "image": rows["image"].gather(first),
        "split": rows["split"].gather(first),
        "other_image": rows["image"].gather(second),
        "other_split": rows["split"].gather(second),
        "distance": pl.Series(distances[first, second], dtype=pl.Float32),
    }
    return pl.DataFrame(pairs).sort("distance", "image", "other_image")


def _median_distance(vectors: NDArray[np.float32], sample: int = 600) -> float:
    some = vectors[:: max(1, -(-len(vectors) // sample))]
    distances = 1 - some @ some.T
    return float(np.median(distances[np.triu_indices(len(some), 1)])) if len(some) > 1 else 0.0


def diverse(selection: Selection, count: int, also_even_over: Sequence[str] = ()) -> Selection:
    """Keep `count` images that differ as much as possible, evenly over episodes.

    Where there are more episodes than places, those that get one are spread over the series (the golden ratio's
    multiples are): the earlier ones alone would show the character as it once looked.

    Args:
        selection: What there is.
        count: Images wanted.
        also_even_over: Columns whose values are to be even, too, most important first, as far as the episodes allow.
    """
    if selection.rows.height <= count:
        return selection
    episodes = selection.rows["episode"].rank("dense").to_numpy().astype(np.int64) - 1
    order = np.argsort(np.argsort(np.arange(episodes.max() + 1) * _GOLDEN_RATIO % 1))
    others = (
        selection.rows[name].cast(pl.String).fill_null("").rank("dense").to_numpy().astype(np.int64)
        for name in also_even_over
    )
    return selection.keep(farthest_first(selection.vectors, count, [order[episodes], *others]), "not_selected")


def framing(rows: pl.DataFrame) -> pl.Series:
    """Return how much of the figure a picture shows, by geometry: `whole`, or cut by the frame's lower edge.

    Cut ones are `close` where they are as high as most of the frame, else `part`. A model of words would be asked for
    what the box already says.
    """
    height = (pl.col("y1") - pl.col("y0")) / pl.col("frame_height_px")
    is_cut = pl.col("y1") >= pl.col("frame_height_px") - 1
    kind = pl.when(~is_cut).then(pl.lit("whole")).when(height >= _CLOSE_HEIGHT).then(pl.lit("close"))
    return rows.select(kind.otherwise(pl.lit("part")).alias("framing")).to_series()


def shot_numbers(rows: pl.DataFrame) -> NDArray[np.int64]:
    """Return a number per row, equal for rows of one shot of one episode."""
    return rows.select(pl.struct("episode", "shot").rank("dense")).to_series().to_numpy().astype(np.int64)
