"""Results held against the truth of a generated series: who was found, who became whom, how well cut out.

Not here: making or reading the truth (:mod:`yokai_assets.demo.series`, :mod:`yokai_assets.demo.truth`), or any
judgement without one; a real series has none.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from yokai_assets.demo.truth import Truth

MIN_BOX_IOU = 0.5
"""Boxes that overlap at least so much show the same instance."""
_MIN_VISIBLE_SHARE = 0.5
_NOISE = "(noise)"


@dataclass(frozen=True)
class CharacterScore:
    """What became of one true character.

    `drawing_count` counts its distinct drawings that are at least half visible; `found_share` of these were found in at
    least one frame of their hold; `recall` of these are members of `best_id`, the registry character that got most
    of it; `purity` is the share of `best_id`'s matched instances that are truly this one; `others` tells what else
    got instances of it (registry id -> count, "(noise)" for none).
    """

    name: str
    is_rare: bool
    drawing_count: int
    found_share: float
    best_id: str | None
    recall: float
    purity: float
    others: dict[str, int]


@dataclass(frozen=True)
class Score:
    """The whole result.

    `adjusted_rand_index` (Hubert & Arabie 1985) over matched, assigned instances; NaN if there are none.
    `noise_share` of matched instances have no character. `unmatched_count` instances lie where the truth has no
    single creature, `group_count` of them cover two or more. `foreign_ids` are registry characters without any
    matched instance. `matte_iou` is the mean IoU of cut-outs and true alpha, None if no masks were given.
    """

    instance_count: int
    matched_count: int
    unmatched_count: int
    group_count: int
    adjusted_rand_index: float
    noise_share: float
    characters: tuple[CharacterScore, ...]
    foreign_ids: tuple[str, ...]
    matte_iou: float | None

    def as_dict(self) -> dict:
        """Plain values, for JSON and metadata."""
        return asdict(self)

    def __rich__(self):
        from rich.console import Group
        from rich.table import Table

        table = Table(title="Against the truth")
        for column in ("character", "drawings", "found", "became", "recall", "purity", "also in"):
            table.add_column(column, justify="left" if column in ("character", "became", "also in") else "right")
        for one in self.characters:
            table.add_row(
                one.name + (" (rare)" if one.is_rare else ""),
                str(one.drawing_count),
                f"{one.found_share:.0%}",
                one.best_id or "-",
                f"{one.recall:.0%}",
                f"{one.purity:.0%}",
                ", ".join(f"{name} {count}" for name, count in one.others.items()),
            )
        matte = "" if self.matte_iou is None else f", matte IoU {self.matte_iou:.3f}"
        summary = (
            f"ARI {self.adjusted_rand_index:.3f}, noise {self.noise_share:.1%}{matte}; "
            f"{self.instance_count} instances: {self.matched_count} matched, "
            f"{self.group_count} cover several creatures, {self.unmatched_count - self.group_count} show none"
        )
        foreign = [f"Without a true character: {', '.join(self.foreign_ids)}"] if self.foreign_ids else []
        return Group(table, summary, *foreign)


def box_iou(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.float64]:
    """Intersection over union of boxes (N, 4) and (M, 4) as x0, y0, x1, y1 in px: (N, M)."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    overlap = np.clip(high - low, 0, None).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (first, second)]
    return overlap / np.maximum(1e-9, areas[0][:, None] + areas[1][None] - overlap)


def match_instances(truth: Truth, instances: pl.DataFrame) -> pl.DataFrame:
    """Pairs found instances with true ones, frame by frame, best box IoU first, each used once.

    Returns:
        One row per found instance: `instance_id`, `truth_id` (null if none has an IoU of :data:`MIN_BOX_IOU`),
        `iou`, and `covered`, the number of true instances of which it covers at least half the box.
    """
    true_by_frame = truth.instances.partition_by("frame_id", as_dict=True)
    rows = []
    for (frame_id,), found in instances.partition_by("frame_id", as_dict=True).items():
        ids = found["instance_id"].to_list()
        true = true_by_frame.get((frame_id,))
        if true is None:
            rows += [(instance_id, None, 0.0, 0) for instance_id in ids]
            continue
        boxes, true_boxes = (part.select("x0", "y0", "x1", "y1").to_numpy().astype(float) for part in (found, true))
        pairs = _greedy(box_iou(boxes, true_boxes))
        covered = _covered(boxes, true_boxes)
        true_ids = true["truth_id"].to_list()
        for index, instance_id in enumerate(ids):
            partner, iou = pairs.get(index, (None, 0.0))
            rows.append((instance_id, None if partner is None else true_ids[partner], iou, int(covered[index])))
    schema = {"instance_id": pl.String, "truth_id": pl.String, "iou": pl.Float64, "covered": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _greedy(iou: NDArray[np.float64]) -> dict[int, tuple[int, float]]:
    pairs: dict[int, tuple[int, float]] = {}
    taken: set[int] = set()
    for flat in np.argsort(-iou, axis=None):
        first, second = (int(index) for index in np.unravel_index(flat, iou.shape))
        if iou[first, second] < MIN_BOX_IOU:
            break
        if first not in pairs and second not in taken:
            pairs[first] = (second, float(iou[first, second]))
            taken.add(second)
    return pairs


def _covered(boxes: NDArray[np.float64], true_boxes: NDArray[np.float64]) -> NDArray[np.int64]:
    low = np.maximum(boxes[:, None, :2], true_boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], true_boxes[None, :, 2:])
    overlap = np.clip(high - low, 0, None).prod(axis=2)
    return (overlap >= 0.5 * (true_boxes[:, 2:] - true_boxes[:, :2]).prod(axis=1)).sum(axis=1)


def score_against_truth(
    truth: Truth,
    instances: pl.DataFrame,
    assignments: Mapping[str, str | None],
    characters: pl.DataFrame | None = None,
    masks: Callable[[str], NDArray[np.uint8]] | None = None,
) -> Score:
    """Holds instances and their characters against the truth.

    Args:
        truth: of the series.
        instances: rows with `instance_id`, `frame_id` and the box `x0`, `y0`, `x1`, `y1` (px), as in the table
            `instances`.
        assignments: instance_id -> character id, None (or no entry) for noise.
        characters: the registry's table; those of its ids that are not retired and got nothing true are listed.
        masks: gives an instance's alpha inside its box, (H, W) uint8; without it cut-outs are not measured.
    """
    matches = (
        match_instances(truth, instances)
        .join(truth.instances.select("truth_id", "character"), on="truth_id", how="left")
        .join(_drawings(truth), on="truth_id", how="left")
        .with_columns(
            pl.col("instance_id")
            .map_elements(lambda one: assignments.get(one), return_dtype=pl.String, skip_nulls=False)
            .alias("assigned")
        )
    )
    matched = matches.filter(pl.col("truth_id").is_not_null())
    unmatched = matches.filter(pl.col("truth_id").is_null())
    known_ids = set(matched["assigned"].drop_nulls())
    listed_ids: set[str] = {one for one in assignments.values() if one is not None}
    if characters is not None:
        listed_ids |= set(characters.filter(pl.col("state") != "retired")["character_id"])
    return Score(
        instance_count=instances.height,
        matched_count=matched.height,
        unmatched_count=unmatched.height,
        group_count=unmatched.filter(pl.col("covered") >= 2).height,
        adjusted_rand_index=_adjusted_rand_index(matched),
        noise_share=matched["assigned"].null_count() / max(1, matched.height),
        characters=tuple(_score_character(truth, member.name, member.is_rare, matched) for member in truth.characters),
        foreign_ids=tuple(sorted(listed_ids - known_ids)),
        matte_iou=None if masks is None else _matte_iou(truth, instances, matched, masks),
    )


def _drawings(truth: Truth) -> pl.DataFrame:
    """`truth_id` -> `drawing`, the truth_id in the first frame of the hold."""
    return truth.instances.join(truth.frames.select("frame_id", "duplicate_of"), on="frame_id").select(
        "truth_id",
        (
            pl.coalesce("duplicate_of", "frame_id") + "/" + pl.col("truth_id").str.split("/").list.last()
        ).alias("drawing"),
    )  # fmt: skip


def _adjusted_rand_index(matched: pl.DataFrame) -> float:
    from sklearn.metrics import adjusted_rand_score

    assigned = matched.drop_nulls("assigned")
    if assigned.is_empty():
        return math.nan
    return float(adjusted_rand_score(assigned["character"].to_list(), assigned["assigned"].to_list()))


def _score_character(truth: Truth, name: str, is_rare: bool, matched: pl.DataFrame) -> CharacterScore:
    countable = truth.instances.filter((pl.col("character") == name) & (pl.col("visible_share") >= _MIN_VISIBLE_SHARE))
    readable = countable.join(truth.readable_frames().select("frame_id"), on="frame_id", how="semi")
    drawings = set(readable.join(_drawings(truth), on="truth_id")["drawing"])
    own = matched.filter((pl.col("character") == name) & pl.col("drawing").is_in(list(drawings)))
    counts = Counter(one or _NOISE for one in own["assigned"].to_list())
    best_id = next((one for one, _ in counts.most_common() if one != _NOISE), None)
    members = matched.filter(pl.col("assigned") == best_id) if best_id else matched.clear()
    total = max(1, len(drawings))
    return CharacterScore(
        name=name,
        is_rare=is_rare,
        drawing_count=len(drawings),
        found_share=own["drawing"].n_unique() / total,
        best_id=best_id,
        recall=own.filter(pl.col("assigned") == best_id)["drawing"].n_unique() / total if best_id else 0.0,
        purity=members.filter(pl.col("character") == name).height / max(1, members.height),
        others={one: count for one, count in counts.most_common() if one != best_id},
    )


def _matte_iou(
    truth: Truth, instances: pl.DataFrame, matched: pl.DataFrame, masks: Callable[[str], NDArray[np.uint8]]
) -> float | None:
    """Mean IoU at half alpha; what other creatures own of a cut-out counts as wrong."""
    boxes = {row["instance_id"]: row for row in instances.iter_rows(named=True)}
    values = []
    for row in matched.iter_rows(named=True):
        box = boxes[row["instance_id"]]
        true = truth.instance_alpha(row["truth_id"]) >= 128
        found = np.zeros_like(true)
        found[box["y0"] : box["y1"], box["x0"] : box["x1"]] = masks(row["instance_id"]) >= 128
        values.append((true & found).sum() / max(1, (true | found).sum()))
    return float(np.mean(values)) if values else None
