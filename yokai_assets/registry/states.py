"""The state of a character: whether it is trained, and if not, why not.

Rules only; members are settled before. A person's decision outweighs any rule.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from yokai_assets.clustering.judging import IS_SCENERY, MERGED_HALVES_LINKAGE, SCENERY_EDGE_CONTACT, UNSTABLE_JACCARD
from yokai_assets.registry.decisions import Accept, Decision, DecisionLog, Dismiss, Retire

State = Literal["active", "too_small", "provisional", "split_from", "merged_into", "not_a_character", "retired"]

STATE_MEANINGS: Mapping[State, str] = {
    "active": "trained",
    "too_small": "too few members to be trained",
    "provisional": "large enough, but in doubt: not trained unless accepted",
    "split_from": "came out of another character in the newest clustering; trained once another one finds it again",
    "merged_into": "now part of another character",
    "not_a_character": "scenery, a prop, a title: not trained",
    "retired": "not found any more, or not wanted",
}

GONE: frozenset[State] = frozenset({"merged_into", "retired"})
"""States of those who are nobody of their own any more."""

_BY_DECISION = "by decision"


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why a group is not to be trained unless a person accepts it."""

    state: Literal["provisional", "not_a_character"]
    reason: str


@dataclass(frozen=True, slots=True)
class Standing:
    """A character's state, the other character that it speaks of, and why it is so."""

    state: State
    other_id: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Situation:
    """What the rules look at.

    Attributes:
        member_count: Members after decisions.
        former: Its standing in the newest version; None if it is new.
        parent: Living character that a clustering took it out of just now.
        heir: Character that its former members are in now, where it has none.
        is_found_again: A clustering other than the one it was found in last has found it.
        doubt: What speaks against its group.
    """

    member_count: int
    former: Standing | None = None
    parent: str | None = None
    heir: str | None = None
    is_found_again: bool = False
    doubt: Doubt | None = None


def doubts_of(groups: pl.DataFrame, clusters: pl.DataFrame) -> dict[int, Doubt]:
    """Return cluster label -> doubt of the groups that are not to be trained unasked.

    Scenery: most of its images are cut off by the frame all around, or words say so. A mixture: its halves are as
    unlike as two characters, *and* it is not found again; either alone is only shown, for a character with two looks
    has unlike halves, and one whose rival is near is not always found again.

    Args:
        groups: `GROUPS`.
        clusters: `CLUSTERS`; a group of another size than was judged is another group, and not doubted.
    """
    sizes = clusters.group_by("cluster_label").agg(pl.len().cast(pl.Int32).alias("size"))
    groups = groups.join(sizes, on=["cluster_label", "size"], how="semi")
    is_mixture = (pl.col("halves_linkage") < MERGED_HALVES_LINKAGE) & (pl.col("stability") < UNSTABLE_JACCARD)
    mixtures = {
        row["cluster_label"]: Doubt(
            "provisional",
            f"its halves are unlike ({row['halves_linkage']:.2f} of 1) and parts of the series do not give it again "
            f"({row['stability']:.0%})",
        )
        for row in groups.filter(is_mixture).iter_rows(named=True)
    }
    scenery = {
        row["cluster_label"]: Doubt("not_a_character", _why_scenery(row))
        for row in groups.filter(IS_SCENERY).iter_rows(named=True)
    }
    return mixtures | scenery


def _why_scenery(group: Mapping[str, Any]) -> str:
    contact = group["edge_contact"] or 0.0
    if contact >= SCENERY_EDGE_CONTACT:
        return f"the frame's edge cuts {contact:.0%} of the outline of its usual image, as it does scenery"
    return f"by words, its images show scenery or lettering and no figure ({group['scenery_probability']:.0%})"


def standing_of(character_id: str, now: Situation, log: DecisionLog, min_cluster_size: int) -> Standing:
    """Return the state of a character.

    Decisions come first (merge, then the newest of dismiss, accept and retire), then whether it has members at all,
    then their number, then doubts, which an acceptance removes.
    """
    merged = log.merged_into().get(character_id)
    if merged:
        return Standing("merged_into", merged, _BY_DECISION)
    judgement = log.last(character_id, Dismiss, Accept, Retire)
    if judgement and isinstance(judgement.what, Dismiss):
        return Standing("not_a_character", reason=_by(judgement))
    if judgement and isinstance(judgement.what, Retire):
        return Standing("retired", reason=_by(judgement))
    if now.member_count == 0:
        return _standing_of_the_gone(now)
    if now.member_count < min_cluster_size:
        return Standing("too_small", reason=f"{now.member_count} of {min_cluster_size} members")
    if judgement:
        return Standing("active", reason=_by(judgement))
    if now.doubt:
        return Standing(now.doubt.state, reason=now.doubt.reason)
    if now.former is None and now.parent:
        return Standing("split_from", now.parent, "another clustering has to find it again")
    if now.former and now.former.state == "split_from" and not now.is_found_again:
        return now.former
    return Standing("active")


def _standing_of_the_gone(now: Situation) -> Standing:
    if now.heir:
        return Standing("merged_into", now.heir, "its members are in that one's group now")
    if now.former and now.former.state in GONE and not (now.former.reason or "").startswith(_BY_DECISION):
        return now.former
    return Standing("retired", reason="the newest clustering does not find it")


def _by(decision: Decision) -> str:
    return f"{_BY_DECISION} {decision.decision_id}"
