"""What decisions do to members: characters as a clustering found them become characters as a person wants them.

Two levels are kept apart. `found_as` is the character that matching gave a group to, so that the next clustering is
matched to the same pieces; `character_id` is whose an instance is in the end. Splits act on the first (both parts are
pieces from then on), merges, exclusions and freezing on the second. States are `states`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from yokai_assets.registry.decisions import Decision, DecisionLog, Exclude, Freeze, InstanceRef, Merge, Split
from yokai_assets.registry.groups import Vectors, centroid_of

MIN_FOUND_SHARE = 0.5
"""Share of a decision's instances that must be there still for it to say anything."""

MIN_BOX_IOU = 0.5
"""Overlap (intersection over union) from which an instance that was cut anew is the one a decision names."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """Members after decisions.

    Attributes:
        members: The rows that were given, with `found_as` and `character_id`.
        lapsed: Decision -> why it no longer applies.
    """

    members: pl.DataFrame
    lapsed: Mapping[int, str]


def apply_decisions(
    rows: pl.DataFrame,
    previous_members: pl.DataFrame,
    log: DecisionLog,
    split_ids: Mapping[int, str],
    boxes: pl.DataFrame,
    vectors: Vectors,
    formerly_lapsed: Mapping[int, str],
) -> Ruling:
    """Give every instance to the character that matching and the decisions in force say it is.

    Args:
        rows: Every clustered instance with a vector: `instance_id`, `episode`, `probability`, `place` and `found_as`
            (null for noise).
        previous_members: `MEMBERS` of the newest version: what split parts and frozen characters held.
        log: Decisions.
        split_ids: Split decision -> id of the character that it makes.
        boxes: `instance_id`, `frame_id`, `x0`, `y0`, `x1`, `y1` of the frames that decisions refer to.
        vectors: Where vectors are taken.
        formerly_lapsed: Decision -> why it had lapsed in the newest version.
    """
    lapsed: dict[int, str] = {}
    present = _Present(rows["instance_id"], boxes)
    for decision in log.in_force:
        if isinstance(decision.what, Split):
            listed = present.find(decision, decision.what.instances, lapsed)
            if decision.decision_id not in lapsed:
                child = split_ids[decision.decision_id]
                rows = _split(rows, decision.what.character_id, child, listed, previous_members, vectors)
    parents = log.merged_into()
    for decision in log.in_force:
        if isinstance(decision.what, Merge) and decision.what.other not in parents:
            lapsed[decision.decision_id] = "it would merge a character into itself"
    members = rows.filter(pl.col("found_as").is_not_null())
    members = members.with_columns(character_id=pl.col("found_as").replace(parents))
    members = _hold_frozen(members, rows, previous_members, log, lapsed, formerly_lapsed)
    for decision in log.in_force:
        if isinstance(decision.what, Exclude):
            excluded = present.find(decision, decision.what.instances, lapsed)
            owner = parents.get(decision.what.character_id, decision.what.character_id)
            is_out = (pl.col("character_id") == owner) & pl.col("instance_id").is_in(excluded)
            members = members.filter(~is_out)
    return Ruling(_one_a_frame(members, _put_together(log, split_ids, parents)), lapsed)


class _Present:
    """Finds instances that decisions name among those there are."""

    def __init__(self, instance_ids: pl.Series, boxes: pl.DataFrame) -> None:
        self._ids = set(instance_ids.to_list())
        self._boxes: dict[str, list[tuple[str, tuple[int, int, int, int]]]] = {}
        for name, frame, *box in boxes.select("instance_id", "frame_id", "x0", "y0", "x1", "y1").iter_rows():
            self._boxes.setdefault(frame, []).append((name, (box[0], box[1], box[2], box[3])))

    def find(self, decision: Decision, references: Iterable[InstanceRef], lapsed: dict[int, str]) -> list[str]:
        """Return the instances there are now; note the decision as lapsed where too few are left."""
        wanted = list(references)
        found = [name for reference in wanted if (name := self._now(reference)) is not None]
        if len(found) < MIN_FOUND_SHARE * len(wanted):
            lapsed[decision.decision_id] = f"{len(wanted) - len(found)} of its {len(wanted)} instances are gone"
            return []
        return found

    def _now(self, reference: InstanceRef) -> str | None:
        neighbours = self._boxes.get(reference.frame_id)
        if not neighbours:
            return None
        name, overlap = max(((name, _iou(box, reference.box)) for name, box in neighbours), key=lambda pair: pair[1])
        return name if overlap >= MIN_BOX_IOU and name in self._ids else None


def _iou(one: Sequence[int], other: Sequence[int]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return width * height / (areas - width * height)


def _split(
    rows: pl.DataFrame, parent: str, child: str, listed: list[str], previous: pl.DataFrame, vectors: Vectors
) -> pl.DataFrame:
    """Give listed instances to `child`, what it held already too, and new ones of the parent to whom they resemble."""
    by_child = previous.filter(pl.col("found_as") == child)["instance_id"].to_list()
    by_parent = previous.filter(pl.col("found_as") == parent)["instance_id"].to_list()
    is_of_parent = (pl.col("found_as") == parent).fill_null(value=False)
    is_childs = pl.col("instance_id").is_in(listed) | (is_of_parent & pl.col("instance_id").is_in(by_child))
    rows = rows.with_columns(
        found_as=pl.when(is_childs).then(pl.lit(child)).otherwise("found_as"),
        probability=pl.when(pl.col("instance_id").is_in(listed)).then(1.0).otherwise("probability"),
    )
    is_new = is_of_parent & ~pl.col("instance_id").is_in(by_parent)
    new = rows.filter(is_new)
    childs, parents = rows.filter(pl.col("found_as") == child), rows.filter(is_of_parent & ~is_new)
    if new.is_empty() or childs.is_empty() or parents.is_empty():
        return rows
    centroids = np.stack([centroid_of(vectors.at(part["place"])) for part in (parents, childs)])
    nearest = (vectors.at(new["place"]) @ centroids.T).argmax(axis=1)
    moved = new["instance_id"].filter(pl.Series(nearest == 1))
    is_moved = pl.col("instance_id").is_in(moved.implode())
    return rows.with_columns(found_as=pl.when(is_moved).then(pl.lit(child)).otherwise("found_as"))


def _hold_frozen(
    members: pl.DataFrame,
    rows: pl.DataFrame,
    previous: pl.DataFrame,
    log: DecisionLog,
    lapsed: dict[int, str],
    formerly_lapsed: Mapping[int, str],
) -> pl.DataFrame:
    """Let frozen characters keep exactly the members that they had and that are there still.

    Once nothing of it was left to hold, a freeze stays lapsed: it says nothing of what a character became since.
    """
    for decision in log.in_force:
        if not isinstance(decision.what, Freeze):
            continue
        if decision.decision_id in formerly_lapsed:
            lapsed[decision.decision_id] = formerly_lapsed[decision.decision_id]
            continue
        frozen = decision.what.character_id
        had = previous.filter(pl.col("character_id") == frozen)
        if had.is_empty():
            continue
        held = had.select("instance_id", "character_id", "found_as")
        kept = rows.drop("found_as").join(held, on="instance_id", how="inner").select(members.columns)
        if kept.is_empty():
            lapsed[decision.decision_id] = "none of the instances that it held are there any more"
            continue
        is_held = pl.col("instance_id").is_in(kept["instance_id"].implode())
        members = pl.concat([members.filter(~is_held & (pl.col("character_id") != frozen)), kept])
    return members.sort("instance_id")


def _put_together(log: DecisionLog, split_ids: Mapping[int, str], parents: Mapping[str, str]) -> list[str]:
    """Return the characters that a person put together, in whom two instances of one frame may have met."""
    return [*parents.values(), *(split_ids[d.decision_id] for d in log.in_force if d.decision_id in split_ids)]


def _one_a_frame(members: pl.DataFrame, characters: list[str]) -> pl.DataFrame:
    """Leave these characters one instance a frame, the surest: one frame shows no character twice."""
    if not characters:
        return members
    concerned = members.filter(pl.col("character_id").is_in(characters))
    frame = pl.col("instance_id").str.replace(r"/[^/]*$", "").alias("frame_id")
    order = concerned.with_columns(frame).sort(["probability", "instance_id"], descending=[True, False])
    kept = order.unique(["character_id", "frame_id"], keep="first", maintain_order=True)
    rest = members.filter(~pl.col("character_id").is_in(characters))
    return pl.concat([rest, kept.select(members.columns)]).sort("instance_id")
