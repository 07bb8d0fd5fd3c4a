"""What happened to characters between two versions, after MONIC (Spiliopoulou et al., KDD 2006).

Telling only; ids and states are settled by `registry` before.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from yokai_assets.registry.matching import Candidate, Matches
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
    log: EventLog,
    ids: Sequence[str],
    matches: Matches,
    known_ids: Sequence[str],
    characters: pl.DataFrame,
    groups: Sequence[Candidate],
) -> None:
    """Add the events of one update; a character whose number of members stays gets none.

    Args:
        log: Where to.
        ids: Character of every group.
        matches: Result of matching.
        known_ids: Character of every row of the matches.
        characters: `CHARACTERS` of the former version.
        groups: The new groups.
    """
    before = {row["character_id"]: row for row in characters.iter_rows(named=True)}
    row_of = {known: row for row, known in enumerate(known_ids)}
    for column, (character_id, group) in enumerate(zip(ids, groups, strict=True)):
        count = len(group.members)
        if character_id not in before:
            _tell_birth(log, character_id, count, _split_from(column, matches, known_ids, ids, groups))
        elif before[character_id]["state"] == "retired":
            log.add("returned", character_id, count, f"found again with {count} members")
        else:
            _tell_size(log, character_id, before[character_id]["member_count"], count, matches, row_of, column)
    for known in known_ids:
        if known not in ids and before[known]["state"] != "retired":
            _tell_loss(log, known, row_of[known], matches, ids)


def _tell_birth(log: EventLog, character_id: str, count: int, origin: tuple[str, int, int] | None) -> None:
    if origin is None:
        log.add("born", character_id, count, f"a new group of {count} members")
        return
    parent, held, parent_count = origin
    log.add("born", character_id, count, f"split from {parent}, which held {held} of its members", parent)
    log.add("split", parent, parent_count, f"{held} of its members became {character_id}", character_id)


def _tell_size(
    log: EventLog,
    character_id: str,
    old_count: int,
    count: int,
    matches: Matches,
    row_of: dict[str, int],
    column: int,
) -> None:
    kept = int(matches.overlap[row_of[character_id], column])
    note = f"{old_count} to {count} members: {kept} kept, {count - kept} gained, {old_count - kept} lost"
    if count > old_count:
        log.add("grown", character_id, count, note)
    elif count < old_count:
        log.add("shrunk", character_id, count, note)


def _tell_loss(log: EventLog, character_id: str, row: int, matches: Matches, ids: Sequence[str]) -> None:
    shared = int(matches.shared_of_known[row])
    held = matches.overlap[row]
    best = int(held.argmax()) if held.size else -1
    if shared and best >= 0 and held[best] >= MERGE_MIN_SHARE * shared:
        log.add("merged", character_id, 0, f"{held[best]} of its {shared} members are now in {ids[best]}", ids[best])
        return
    reason = "its members are noise or scattered now" if shared else "none of its members are there any more"
    log.add("retired", character_id, 0, reason)


def _split_from(
    column: int, matches: Matches, known_ids: Sequence[str], ids: Sequence[str], groups: Sequence[Candidate]
) -> tuple[str, int, int] | None:
    """Return (living character, members it held, members it has now) that a new group came out of, if one did."""
    shared = int(matches.shared_of_group[column])
    living = np.array([known in ids for known in known_ids], dtype=bool)
    held = np.where(living, matches.overlap[:, column], 0) if len(known_ids) else np.empty(0)
    if shared == 0 or held.size == 0 or held.max() < SPLIT_MIN_SHARE * shared:
        return None
    parent = known_ids[int(held.argmax())]
    return parent, int(held.max()), len(groups[list(ids).index(parent)].members)
