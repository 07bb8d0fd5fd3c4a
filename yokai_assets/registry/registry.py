"""The books: ids given once, states, members, and what happened to each character.

Pure functions on tables. Matching is `matching`, disk is `store`.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from yokai_assets.registry.events import EventLog, tell_what_happened
from yokai_assets.registry.matching import Candidate, Matches, match_groups
from yokai_assets.settings.model import RegistrySettings
from yokai_assets.tables import CHARACTERS, EVENTS, MEMBERS

MAX_EXEMPLARS = 12


class RegistryError(ValueError):
    """Clusters that no registry can be made of, or a version that cannot be read; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Registry:
    """One version of the characters of a series.

    Attributes:
        version: From 1, by one for every change.
        characters: `CHARACTERS`, retired ones included, sorted by id.
        members: `MEMBERS` of living characters, sorted by instance.
        events: `EVENTS` of all versions, oldest first.
    """

    version: int
    characters: pl.DataFrame
    members: pl.DataFrame
    events: pl.DataFrame

    @property
    def content_hash(self) -> str:
        """sha256 over characters and members, whatever version and date they bear: equal content, equal hash."""
        digest = hashlib.sha256()
        for frame in (self.characters.drop("first_version", "last_version"), self.members):
            rows = frame.sort(frame.columns[:2]).with_columns(pl.selectors.float().cast(pl.Float32))
            digest.update(rows.write_ndjson().encode())
        return digest.hexdigest()

    def trainable_ids(self) -> list[str]:
        """Return the characters that are large enough to train, largest first."""
        active = self.characters.filter(pl.col("state") == "active")
        return active.sort(["member_count", "character_id"], descending=[True, False])["character_id"].to_list()

    @property
    def new_events(self) -> pl.DataFrame:
        """The events of this version."""
        return self.events.filter(pl.col("registry_version") == self.version)


def update_registry(
    previous: Registry | None,
    clusters: pl.DataFrame,
    embeddings: pl.DataFrame,
    settings: RegistrySettings,
    min_cluster_size: int,
    at: datetime,
) -> Registry:
    """Match a clustering to the known characters and write down what became of each.

    A group that matches a known character is that character; another gets a new id, the next in line after every id
    ever given. Known characters without a group retire and keep their id, exemplars and centroid. Characters with
    fewer than `min_cluster_size` members are `too_small`: reported, not trained.

    Args:
        previous: The newest version; None for the first.
        clusters: `CLUSTERS` of the whole series.
        embeddings: `EMBEDDINGS` of the whole series.
        settings: Thresholds of matching.
        min_cluster_size: Members that make a character trainable.
        at: Time of the events, with a time zone.

    Returns:
        A new version, or `previous` itself where nothing changed.

    Raises:
        RegistryError: Clustered instances without a vector, or vectors of several models.
    """
    groups = _groups_of(clusters, embeddings)
    known = _known(previous)
    candidates = [Candidate(frozenset(g.members["instance_id"]), g.centroid, g.model_fingerprint) for g in groups]
    matches = match_groups(list(known.values()), candidates, frozenset(clusters["instance_id"]), settings)
    version = 1 if previous is None else previous.version + 1
    ids = _ids_of(groups, list(known), matches)
    characters, members = _tables(previous, groups, ids, min_cluster_size, version)
    log = EventLog(previous.events if previous else EVENTS.empty(), version, at)
    tell_what_happened(
        log, ids, matches, list(known), previous.characters if previous else CHARACTERS.empty(), candidates
    )
    updated = Registry(version, characters, members, log.table())
    if previous is not None and updated.content_hash == previous.content_hash:
        return previous
    return updated


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


@dataclass(frozen=True, slots=True)
class _Group:
    """A group of the clustering: members with `centroid_cosine`, unit centroid float32 [D]."""

    members: pl.DataFrame
    centroid: np.ndarray
    model_fingerprint: str


def _groups_of(clusters: pl.DataFrame, embeddings: pl.DataFrame) -> list[_Group]:
    grouped = clusters.filter(pl.col("cluster_label") >= 0).select(
        "instance_id", "episode", "cluster_label", "probability"
    )
    # Vectors stay where they are and are taken group by group: joined and sorted, a series' gigabyte would be there
    # three times.
    places = embeddings.select("instance_id", "model_fingerprint").with_row_index("place")
    joined = grouped.join(places, on="instance_id", how="left").sort("cluster_label", "instance_id")
    missing = joined.filter(pl.col("place").is_null())
    if missing.height:
        raise RegistryError(
            f"{missing.height} clustered instances have no vector (first: {missing['instance_id'][0]}). "
            "Materialize `embedding_index` and `clusters` again."
        )
    if joined["model_fingerprint"].n_unique() > 1:
        raise RegistryError(
            "The clustered vectors are of several embedding models. Materialize `embeddings` of every episode, then "
            "`embedding_index` and `clusters`."
        )
    vectors = embeddings["vector"]
    return [_group_of(rows, vectors) for rows in joined.partition_by("cluster_label", maintain_order=True)]


def _group_of(rows: pl.DataFrame, vectors: pl.Series) -> _Group:
    matrix = _as_matrix(vectors.gather(rows["place"]))
    mean = matrix.mean(axis=0, dtype=np.float64)
    centroid = (mean / max(float(np.linalg.norm(mean)), 1e-12)).astype(np.float32)
    cosines = pl.Series("centroid_cosine", (matrix @ centroid).astype(np.float32))
    members = rows.select("instance_id", "episode", "probability").with_columns(cosines)
    return _Group(members, centroid, rows["model_fingerprint"][0])


def _as_matrix(vectors: pl.Series) -> np.ndarray:
    """Return vectors, a column of arrays or of lists of one width, as float32 [N, D]."""
    column = vectors if isinstance(vectors.dtype, pl.Array) else vectors.list.to_array(len(vectors[0]))
    return column.to_numpy().astype(np.float32, copy=False)


def _known(previous: Registry | None) -> dict[str, Candidate]:
    if previous is None:
        return {}
    members: Mapping[str, list[str]] = dict(
        previous.members.group_by("character_id").agg(pl.col("instance_id").sort()).iter_rows()
    )
    return {
        row["character_id"]: Candidate(
            members=frozenset(members.get(row["character_id"]) or row["exemplars"] or ()),
            centroid=np.asarray(row["centroid"], dtype=np.float32),
            model_fingerprint=row["model_fingerprint"],
            is_retired=row["state"] == "retired",
        )
        for row in previous.characters.sort("character_id").iter_rows(named=True)
    }


def _ids_of(groups: list[_Group], known_ids: list[str], matches: Matches) -> list[str]:
    """Return the character id of every group; new ids in the groups' order."""
    following = 1 + max((int(known.rpartition("_")[2]) for known in known_ids), default=-1)
    ids = []
    for group in range(len(groups)):
        if group in matches.known_of_group:
            ids.append(known_ids[matches.known_of_group[group]])
        else:
            ids.append(f"cluster_{following:03d}")
            following += 1
    return ids


def _tables(
    previous: Registry | None, groups: list[_Group], ids: list[str], min_cluster_size: int, version: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    before: dict[str, dict[str, Any]] = (
        {} if previous is None else {row["character_id"]: row for row in previous.characters.iter_rows(named=True)}
    )
    rows = {
        character_id: {
            "character_id": character_id,
            "state": "active" if group.members.height >= min_cluster_size else "too_small",
            "member_count": group.members.height,
            "episode_count": group.members["episode"].n_unique(),
            "first_version": before[character_id]["first_version"] if character_id in before else version,
            "last_version": version,
            "exemplars": exemplars_of(group.members),
            "centroid": group.centroid.tolist(),
            "model_fingerprint": group.model_fingerprint,
        }
        for character_id, group in zip(ids, groups, strict=True)
    }
    for character_id, row in before.items():
        if character_id not in rows:
            rows[character_id] = row | {"state": "retired", "member_count": 0, "episode_count": 0}
    members = [
        group.members.with_columns(pl.lit(character_id).alias("character_id"))
        for character_id, group in zip(ids, groups, strict=True)
    ]
    table = MEMBERS.conform(pl.concat(members).select(MEMBERS.schema.names())) if members else MEMBERS.empty()
    characters = CHARACTERS.from_rows(rows[key] for key in sorted(rows, key=lambda key: int(key.rpartition("_")[2])))
    return characters, table.sort("instance_id")


def exemplars_of(members: pl.DataFrame) -> list[str]:
    """Return up to 12 instance_ids that show the character best, most typical first, from many episodes.

    The most typical of each episode come before any episode's second.
    """
    order = members.sort(["centroid_cosine", "instance_id"], descending=[True, False])
    ranked = order.with_columns(pl.int_range(pl.len()).over("episode").alias("rank"))
    chosen = ranked.sort("rank", maintain_order=True).head(MAX_EXEMPLARS)
    return chosen.sort(["centroid_cosine", "instance_id"], descending=[True, False])["instance_id"].to_list()
