"""Clusterings of made-up series for registry tests: groups by name, vectors near their group's direction."""

from datetime import UTC, datetime

import numpy as np
import polars as pl

from yokai_assets.registry import Registry, update_registry
from yokai_assets.settings.model import RegistrySettings
from yokai_assets.tables import CLUSTERS, EMBEDDINGS

AT = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
DIMENSION = 8


def ids(start: int, count: int, episode: str = "e01") -> list[str]:
    return [f"{episode}/{frame:06d}/0" for frame in range(start, start + count)]


def clustering(
    groups: list[tuple[int, list[str]]], noise: list[str] | None = None, *, model: str = "m1", seed: int = 0
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return `CLUSTERS` and `EMBEDDINGS`: each group is (axis its vectors lie along, instance_ids), in label order."""
    rng = np.random.default_rng(seed)
    labels = [(i, label, axis) for label, (axis, members) in enumerate(groups) for i in members]
    labels += [(i, -1, int(rng.integers(DIMENSION))) for i in noise or []]
    rows, vectors = [], []
    for instance_id, label, axis in labels:
        spread = np.random.default_rng(int.from_bytes(instance_id.encode(), "little") % 2**32)
        vector = np.eye(DIMENSION)[axis] + spread.normal(size=DIMENSION) * 0.1
        vectors.append({"vector": (vector / np.linalg.norm(vector)).tolist(), "model_fingerprint": model})
        rows.append({"instance_id": instance_id, "episode": instance_id.split("/")[0], "cluster_label": label})
    clusters = CLUSTERS.from_rows(
        row
        | {"probability": 1.0 if row["cluster_label"] >= 0 else 0.0, "is_rare_group": False}
        | {"representative": row["instance_id"], "is_joined": False, "cutout_sha256": "x"}
        for row in rows
    )
    embeddings = EMBEDDINGS.from_rows(
        {"instance_id": r["instance_id"], "episode": r["episode"], "cutout_sha256": "x"} | v
        for r, v in zip(rows, vectors, strict=True)
    )
    return clusters, embeddings


def update(
    previous: Registry | None,
    groups: list[tuple[int, list[str]]],
    noise: list[str] | None = None,
    *,
    model: str = "m1",
    min_cluster_size: int = 5,
    settings: RegistrySettings | None = None,
) -> Registry:
    clusters, embeddings = clustering(groups, noise, model=model)
    return update_registry(previous, clusters, embeddings, settings or RegistrySettings(), min_cluster_size, AT)


def members_of(registry: Registry, character_id: str) -> list[str]:
    return registry.members.filter(pl.col("character_id") == character_id)["instance_id"].sort().to_list()


def states(registry: Registry) -> dict[str, str]:
    return dict(registry.characters.select("character_id", "state").iter_rows())


def news(registry: Registry) -> list[tuple[str, str, str | None]]:
    return list(registry.new_events.select("kind", "character_id", "other_id").iter_rows())
