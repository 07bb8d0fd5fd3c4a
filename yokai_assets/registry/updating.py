"""One clustering and a person's decisions in, the next version of the registry out.

Pure functions on tables. Matching is `matching`, decisions are applied by `applying`, states are ruled by `states`,
disk is `store`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from yokai_assets.registry.applying import Ruling, apply_decisions
from yokai_assets.registry.decisions import DecisionLog, Freeze, Name, Split
from yokai_assets.registry.events import Book, EventLog, heir_of, origin_of, tell_what_happened
from yokai_assets.registry.groups import Group, Vectors, exemplars_of, grouped_by, require_vectors
from yokai_assets.registry.matching import Candidate, Matches, match_groups
from yokai_assets.registry.registry import Registry
from yokai_assets.registry.states import Doubt, Situation, Standing, standing_of
from yokai_assets.settings.model import RegistrySettings
from yokai_assets.storage.files import sha256_of_parts
from yokai_assets.tables import CHARACTERS, DECISIONS, EVENTS, INSTANCES, MEMBERS

BOX_COLUMNS = ("instance_id", "frame_id", "x0", "y0", "x1", "y1")
_NO_BOXES = INSTANCES.empty().select(BOX_COLUMNS)
_ID_PREFIX = "cluster_"


def update_registry(
    previous: Registry | None,
    clusters: pl.DataFrame,
    embeddings: pl.DataFrame,
    settings: RegistrySettings,
    min_cluster_size: int,
    at: datetime,
    *,
    decisions: DecisionLog | None = None,
    boxes: pl.DataFrame = _NO_BOXES,
    doubts: Mapping[int, Doubt] | None = None,
) -> Registry:
    """Match a clustering to the known characters, apply decisions, and write down what became of each.

    A group that matches a known character is that character; another gets a new id, the next in line after every id
    ever given. Known characters without a group keep their id, exemplars and centroid. Only `active` ones are
    trained; see `states`.

    Args:
        previous: The newest version; None for the first.
        clusters: `CLUSTERS` of the whole series.
        embeddings: `EMBEDDINGS` of the whole series.
        settings: Thresholds of matching.
        min_cluster_size: Members that make a character trainable.
        at: Time of the events, with a time zone.
        decisions: What a person decided.
        boxes: `BOX_COLUMNS` of `INSTANCES` for the frames that decisions refer to; without them such decisions lapse.
        doubts: Cluster label -> what speaks against training the group.

    Returns:
        A new version, or `previous` itself where nothing changed.

    Raises:
        RegistryError: Clustered instances without a vector, or vectors of several models.
    """
    decisions = decisions or DecisionLog()
    vectors = Vectors(embeddings)
    rows = vectors.placed(clusters.select("instance_id", "episode", "cluster_label", "probability"))
    grouped = rows.filter(pl.col("cluster_label") >= 0)
    model = require_vectors(grouped)
    groups: dict[int, Group] = grouped_by(grouped, "cluster_label", vectors)
    known = _known(previous, decisions)
    candidates = [Candidate(frozenset(g.members["instance_id"]), g.centroid, model) for g in groups.values()]
    matches = match_groups(list(known.values()), candidates, frozenset(clusters["instance_id"]), settings)
    ids, split_ids = _give_ids(len(groups), list(known), matches, decisions, previous)
    said, strangers = decisions.about({*known, *ids, *split_ids.values()})
    named = pl.DataFrame(
        {"cluster_label": list(groups), "found_as": ids}, schema={"cluster_label": pl.Int32, "found_as": pl.String}
    )
    usable = rows.filter(pl.col("place").is_not_null()).join(named, on="cluster_label", how="left")
    held = previous.members if previous else MEMBERS.empty()
    lapsed = previous.decisions.filter(pl.col("status") == "lapsed") if previous else DECISIONS.empty()
    former = dict(lapsed.select("decision_id", "reason").iter_rows())
    ruling = apply_decisions(usable, held, said, split_ids, boxes, vectors, former)

    originals = dict(zip(ids, groups.values(), strict=True))
    update = _Update(
        previous, ruling, originals, vectors, said, split_ids, model, _fingerprint(clusters), min_cluster_size
    )
    doubted = {ids[place]: (doubts or {}).get(label) for place, label in enumerate(groups)}
    lineage = _Lineage.of(ids, list(known), matches, ruling, previous)
    characters, members = update.tables(lineage, doubted)
    log = EventLog(previous.events if previous else EVENTS.empty(), update.version, at)
    before = Book.of(previous.characters if previous else CHARACTERS.empty(), held)
    origins = {**lineage.origins, **update.origins_by_decision}
    tell_what_happened(log, before, Book.of(characters, members), origins, lineage.notes)
    told = _decisions_table(decisions, {**ruling.lapsed, **strangers})
    updated = Registry(update.version, characters, members, log.table(), told)
    if previous is not None and updated.content_hash == previous.content_hash:
        return previous
    return updated


@dataclass(frozen=True, slots=True)
class _Lineage:
    """Where new characters come from and where lost ones went.

    Attributes:
        origins: New character -> living one that a clustering took it out of.
        heirs: Lost character -> the one that its members are in.
        notes: Lost character -> what became of its members, in words.
    """

    origins: Mapping[str, str]
    heirs: Mapping[str, str]
    notes: Mapping[str, str]

    @classmethod
    def of(
        cls, ids: list[str], known: list[str], matches: Matches, ruling: Ruling, previous: Registry | None
    ) -> "_Lineage":
        found = frozenset(ids) | frozenset(ruling.members["found_as"])
        new = {column: name for column, name in enumerate(ids) if name not in known}
        origins = {name: o for column, name in new.items() if (o := origin_of(column, matches, known, found))}
        heirs, notes = {}, {}
        had = set(previous.members["character_id"]) if previous else set()
        for row, name in enumerate(known):
            if name not in found and name in had:
                heir, notes[name] = heir_of(row, matches, ids)
                if heir:
                    heirs[name] = heir
        return cls(origins, heirs, notes)


class _Update:
    """Builds the tables of the next version."""

    def __init__(
        self,
        previous: Registry | None,
        ruling: Ruling,
        originals: Mapping[str, Group],
        vectors: Vectors,
        decisions: DecisionLog,
        split_ids: Mapping[int, str],
        model: str,
        clustering: str,
        min_cluster_size: int,
    ) -> None:
        self.version = 1 if previous is None else previous.version + 1
        self._before = {r["character_id"]: r for r in previous.characters.iter_rows(named=True)} if previous else {}
        self._members, self._originals = ruling.members, originals
        self._vectors, self._decisions = vectors, decisions
        self._split_by = {name: decision for decision, name in split_ids.items() if decision not in ruling.lapsed}
        self._model, self._clustering, self._min_cluster_size = model, clustering, min_cluster_size
        self._lapsed = ruling.lapsed

    @property
    def origins_by_decision(self) -> dict[str, str]:
        """Return new character -> the one that a person took it out of."""
        parents = {d.decision_id: d.what.character_id for d in self._decisions.in_force if isinstance(d.what, Split)}
        return {name: parents[d] for name, d in self._split_by.items() if d in parents}

    def tables(self, lineage: _Lineage, doubts: Mapping[str, Doubt | None]) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Return `CHARACTERS` and `MEMBERS`."""
        # A group of which decisions left nothing was found all the same, and its id was given.
        found = {**self._originals, **grouped_by(self._members, "found_as", self._vectors)}
        owned = grouped_by(self._members, "character_id", self._vectors)
        members = {name: self._with_cosines(group) for name, group in owned.items()}
        rows = [
            self._row(name, found.get(name), members.get(name), lineage, doubts.get(name))
            for name in sorted({*self._before, *found, *owned}, key=_number)
        ]
        table = pl.concat(members.values()).select(MEMBERS.schema.names()) if members else MEMBERS.empty()
        return CHARACTERS.from_rows(rows), MEMBERS.conform(table).sort("instance_id")

    def _with_cosines(self, group: Group) -> pl.DataFrame:
        matrix = self._vectors.at(group.members["place"])
        return group.members.with_columns(pl.Series("centroid_cosine", (matrix @ group.centroid).astype(np.float32)))

    def _row(
        self, name: str, found: Group | None, members: pl.DataFrame | None, lineage: _Lineage, doubt: Doubt | None
    ) -> dict[str, Any]:
        before = self._before.get(name, {})
        is_found = found is not None
        situation = Situation(
            member_count=0 if members is None else members.height,
            former=Standing(before["state"], before["other_id"], before["reason"]) if before else None,
            parent=lineage.origins.get(name),
            heir=lineage.heirs.get(name),
            is_found_again=is_found and bool(before) and before["found_in"] != self._clustering,
            doubt=doubt,
        )
        standing = standing_of(name, situation, self._decisions, self._min_cluster_size)
        called = self._decisions.last(name, Name)
        freeze = self._decisions.last(name, Freeze)
        is_frozen = freeze is not None and freeze.decision_id not in self._lapsed
        shown = members if members is not None else self._with_cosines(found) if found else None
        return {
            "character_id": name,
            "name": called.what.name or None if called and isinstance(called.what, Name) else None,
            "state": standing.state,
            "other_id": standing.other_id,
            "reason": standing.reason,
            "member_count": situation.member_count,
            "episode_count": 0 if members is None else members["episode"].n_unique(),
            "first_version": before.get("first_version", self.version),
            "last_version": self.version if is_found else before["last_version"],
            "found_in": self._clustering if is_found else before["found_in"],
            "split_by": self._split_by.get(name),
            "frozen_by": freeze.decision_id if freeze and is_frozen else None,
            "exemplars": before["exemplars"] if shown is None else exemplars_of(shown),
            "centroid": (found.centroid.tolist() if found else before["centroid"]),
            "model_fingerprint": self._model if is_found else before["model_fingerprint"],
        }


def _known(previous: Registry | None, decisions: DecisionLog) -> dict[str, Candidate]:
    """Return the characters of the newest version by what they were found as; of those not found, exemplars."""
    if previous is None:
        return {}
    held = previous.members.group_by("found_as").agg("instance_id")
    members: Mapping[str, list[str]] = dict(held.iter_rows())
    return {
        row["character_id"]: Candidate(
            members=frozenset(members.get(row["character_id"]) or row["exemplars"] or ()),
            centroid=np.asarray(row["centroid"], dtype=np.float32),
            model_fingerprint=row["model_fingerprint"],
            is_retired=row["character_id"] not in members,
            is_frozen=row["character_id"] in members and decisions.last(row["character_id"], Freeze) is not None,
        )
        for row in previous.characters.sort("character_id").iter_rows(named=True)
    }


def _give_ids(
    group_count: int, known_ids: list[str], matches: Matches, decisions: DecisionLog, previous: Registry | None
) -> tuple[list[str], dict[int, str]]:
    """Return the character id of every group and of every split decision; new ones follow all that were ever given."""
    following = 1 + max((_number(known) for known in known_ids), default=-1)
    ids = []
    for group in range(group_count):
        if group in matches.known_of_group:
            ids.append(known_ids[matches.known_of_group[group]])
        else:
            ids.append(f"{_ID_PREFIX}{following:03d}")
            following += 1
    made: dict[int, str] = {}
    if previous is not None:
        made = dict(previous.characters.drop_nulls("split_by").select("split_by", "character_id").iter_rows())
    split_ids = {}
    for decision in decisions.in_force:
        if isinstance(decision.what, Split):
            split_ids[decision.decision_id] = made.get(decision.decision_id) or f"{_ID_PREFIX}{following:03d}"
            following += decision.decision_id not in made
    return ids, split_ids


def _decisions_table(decisions: DecisionLog, lapsed: Mapping[int, str]) -> pl.DataFrame:
    holding = {decision.decision_id for decision in decisions.in_force}
    rows = []
    for decision in decisions.decisions:
        reason = lapsed.get(decision.decision_id)
        is_undoing = decision.what.kind == "undo"
        status = "lapsed" if reason else "holds" if is_undoing or decision.decision_id in holding else "undone"
        rows.append(
            {
                "decision_id": decision.decision_id,
                "at": decision.at,
                "by": decision.by,
                "kind": decision.what.kind,
                "character_id": getattr(decision.what, "character_id", None),
                "meaning": decision.in_words(),
                "status": status,
                "reason": reason,
            }
        )
    return DECISIONS.from_rows(rows)


def _fingerprint(clusters: pl.DataFrame) -> str:
    labelled = clusters.select("instance_id", "cluster_label").sort("instance_id")
    return sha256_of_parts(labelled.write_csv().encode())[:16]


def _number(character_id: str) -> int:
    return int(character_id.rpartition("_")[2])
