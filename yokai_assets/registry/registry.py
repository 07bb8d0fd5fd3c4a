"""A version of the registry: characters, members, events, decisions, and questions about them.

Data only. How one version follows from another is `updating`, disk is `store`.
"""

import hashlib
from dataclasses import dataclass, field

import polars as pl

from yokai_assets.tables import DECISIONS


@dataclass(frozen=True, slots=True)
class Registry:
    """One version of the characters of a series.

    Attributes:
        version: From 1, by one for every change.
        characters: `CHARACTERS`, those without members included, sorted by id.
        members: `MEMBERS`, sorted by instance.
        events: `EVENTS` of all versions, oldest first.
        decisions: `DECISIONS` as they applied to this version.
    """

    version: int
    characters: pl.DataFrame
    members: pl.DataFrame
    events: pl.DataFrame
    decisions: pl.DataFrame = field(default_factory=DECISIONS.empty)

    @property
    def content_hash(self) -> str:
        """sha256 over characters, members and decisions, whatever version and date they bear."""
        digest = hashlib.sha256()
        characters = self.characters.drop("first_version", "last_version", "found_in")
        for frame in (characters, self.members.sort("instance_id"), self.decisions.drop("at")):
            rows = frame.sort(frame.columns[0], maintain_order=True)
            digest.update(rows.with_columns(pl.selectors.float().cast(pl.Float32)).write_ndjson().encode())
        return digest.hexdigest()

    def trainable_ids(self) -> list[str]:
        """Return the characters that are to be trained, largest first."""
        active = self.characters.filter(pl.col("state") == "active")
        return active.sort(["member_count", "character_id"], descending=[True, False])["character_id"].to_list()

    def members_of(self, character_id: str) -> pl.DataFrame:
        """Return the rows of `MEMBERS` of one character, sorted by instance."""
        return self.members.filter(pl.col("character_id") == character_id).sort("instance_id")

    @property
    def people(self) -> pl.DataFrame:
        """`MEMBERS` without those of what is no character."""
        scenery = self.characters.filter(pl.col("state") == "not_a_character")["character_id"]
        return self.members.filter(~pl.col("character_id").is_in(scenery.implode()))

    @property
    def new_events(self) -> pl.DataFrame:
        """The events of this version."""
        return self.events.filter(pl.col("registry_version") == self.version)


def member_fingerprint(members: pl.DataFrame) -> str:
    """Return a sha256 of who the members are, whatever their order, probabilities and cosines.

    Args:
        members: Rows with `instance_id`, and `cutout_sha256` where pixels are to count too.
    """
    columns = [name for name in ("instance_id", "cutout_sha256") if name in members.columns]
    digest = hashlib.sha256()
    for row in members.select(columns).sort("instance_id").iter_rows():
        digest.update("\0".join(row).encode() + b"\n")
    return digest.hexdigest()


def changed_share(before: Registry, now: Registry) -> float:
    """Return the share of instances with a character in both versions whose character differs; 0 without any."""
    both = before.members.join(now.members, on="instance_id", how="inner", suffix="_now")
    if both.height == 0:
        return 0.0
    return both.filter(pl.col("character_id") != pl.col("character_id_now")).height / both.height
