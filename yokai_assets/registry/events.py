"""What happened to characters between two versions, after MONIC (Spiliopoulou et al., KDD 2006).

Telling only; ids and states are settled by `registry` before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from yokai_assets.registry.matching import Matches
from yokai_assets.tables import EVENTS

MERGE_MIN_SHARE = 0.5
"""Share of a lost character's remaining members that another must hold to have taken it in."""

SPLIT_MIN_SHARE = 0.5
"""Share of a new group's formerly known members that one living character must have held to have been split."""


class EventLog:
    """Appends events to those of former versions."""

    def __init__(self, former: pl.DataFrame, version: int, at: datetime) -> None:
        self._former = former
        self._version = version
        self._at = at
        self._rows: list[dict[str, Any]] = []
        self._following = int(former["event_id"].max() or 0) + 1 if former.height else 0  # pyright: ignore[reportArgumentType]

    def add(self, kind: str, character_id: str, member_count: int, note: str, other_id: str | None = None) -> None:
        """Write down one event."""
        self._rows.append(
            {
                "event_id": self._following + len(self._rows),
                "registry_version": self._version,
                "at": self._at,
                "character_id": character_id,
                "kind": kind,
                "other_id": other_id,
                "member_count": member_count,
                "note": note,
            }
        )

    def table(self) -> pl.DataFrame:
        """Return all events, oldest first."""
        return EVENTS.conform(pl.concat([EVENTS.conform(self._former), EVENTS.from_rows(self._rows)]))


def tell_what_happened(
    log: EventLog, before: "Book", now: "Book", origins: Mapping[str, str], notes: Mapping[str, str]
) -> None:
    """Add the events of one update; a character whose number of members and standing stay gets none.

    Args:
        log: Where to.
        before: Characters and members of the former version.
        now: The same now.
        origins: New character -> living one that held most of its known members.
        notes: Character -> more to say of what its former members became.
    """
    for character_id, row in now.rows.items():
        former = before.rows.get(character_id)
        count = row["member_count"]
        if former is None:
            _tell_birth(log, character_id, before, now, origins.get(character_id))
            former = {"member_count": count, "name": None, "frozen_by": None, "state": row["state"]}
        elif former["member_count"] == 0 and count:
            log.add("returned", character_id, count, f"found again with {count} members")
        elif former["member_count"] and not count:
            kind = "merged" if row["state"] == "merged_into" else "retired"
            note = notes.get(character_id) or row["reason"] or ""
            log.add(kind, character_id, 0, note, row["other_id"])
        elif former["member_count"] != count:
            _tell_size(log, character_id, before, now)
        _tell_standing(log, former, row)


@dataclass(frozen=True, slots=True)
class Book:
    """Characters and members of one version.

    Attributes:
        rows: Character -> its row of `CHARACTERS`.
        members: Character -> its instances.
    """

    rows: Mapping[str, Mapping[str, Any]]
    members: Mapping[str, frozenset[str]]

    @classmethod
    def of(cls, characters: pl.DataFrame, members: pl.DataFrame) -> "Book":
        """Take both tables."""
        held = members.group_by("character_id").agg("instance_id").iter_rows()
        rows = {row["character_id"]: row for row in characters.iter_rows(named=True)}
        return cls(rows, {character: frozenset(ids) for character, ids in held})

    def held_by(self, character_id: str) -> frozenset[str]:
        """Return the members of a character."""
        return self.members.get(character_id, frozenset())


def _tell_birth(log: EventLog, character_id: str, before: Book, now: Book, parent: str | None) -> None:
    count = now.rows[character_id]["member_count"]
    if parent is None or parent not in now.rows:
        log.add("born", character_id, count, f"a new group of {count} members")
        return
    held = len(before.held_by(parent) & now.held_by(character_id))
    log.add("born", character_id, count, f"split from {parent}, which held {held} of its members", parent)
    left = now.rows[parent]["member_count"]
    log.add("split", parent, left, f"{held} of its members became {character_id}", character_id)


def _tell_size(log: EventLog, character_id: str, before: Book, now: Book) -> None:
    old, new = before.held_by(character_id), now.held_by(character_id)
    kept = len(old & new)
    note = f"{len(old)} to {len(new)} members: {kept} kept, {len(new) - kept} gained, {len(old) - kept} lost"
    log.add("grown" if len(new) > len(old) else "shrunk", character_id, len(new), note)


def _tell_standing(log: EventLog, former: Mapping[str, Any], row: Mapping[str, Any]) -> None:
    character_id, count = row["character_id"], row["member_count"]
    if row["name"] != former["name"]:
        log.add("named", character_id, count, row["name"] or "no name any more")
    if (row["frozen_by"] is None) != (former["frozen_by"] is None):
        is_frozen = row["frozen_by"] is not None
        log.add(
            "frozen" if is_frozen else "released", character_id, count, "its members stay" if is_frozen else "as found"
        )
    if row["state"] == former["state"] or not count:
        return
    if row["state"] == "not_a_character":
        log.add("dismissed", character_id, count, row["reason"] or "")
    elif row["state"] == "active" and former["state"] in ("provisional", "split_from", "not_a_character"):
        log.add("confirmed", character_id, count, row["reason"] or "found again")


def origin_of(column: int, matches: Matches, known_ids: Sequence[str], living: frozenset[str]) -> str | None:
    """Return the living character that a new group came out of, if one held at least half of its known members."""
    shared = int(matches.shared_of_group[column])
    if shared == 0 or not known_ids:
        return None
    held = np.where([known in living for known in known_ids], matches.overlap[:, column], 0)
    best = int(held.argmax())
    return known_ids[best] if held[best] >= SPLIT_MIN_SHARE * shared else None


def heir_of(row: int, matches: Matches, ids: Sequence[str]) -> tuple[str | None, str]:
    """Return the character whose group has at least half of a lost one's remaining members, and what became of them."""
    shared, held = int(matches.shared_of_known[row]), matches.overlap[row]
    best = int(held.argmax()) if held.size else -1
    if shared and best >= 0 and held[best] >= MERGE_MIN_SHARE * shared:
        return ids[best], f"{held[best]} of its {shared} members are now in {ids[best]}"
    return None, "its members are noise or scattered now" if shared else "none of its members are there any more"
