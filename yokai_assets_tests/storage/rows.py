"""Rows of the tables that storage tests write. Test data only."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
from upath import UPath

from yokai_assets.storage.parquet import write_table
from yokai_assets.tables import CHARACTERS, EMBEDDINGS, EVENTS, INSTANCES, MEMBERS, TableSpec


def instance_row(episode: str, frame_index: int, instance_index: int = 0, *, weight: int = 1) -> dict[str, Any]:
    frame_id = f"{episode}/{frame_index:06d}"
    values: dict[str, Any] = {
        name: "x" if dtype == pl.String else 1 if dtype == pl.Int32 else 0.5 for name, dtype in INSTANCES.schema.items()
    }
    return values | {
        "instance_id": f"{frame_id}/{instance_index}",
        "frame_id": frame_id,
        "episode": episode,
        "frame_index": frame_index,
        "instance_index": instance_index,
        "shot": frame_index // 2,
        "weight": weight,
    }


def embeddings_of(instances: pl.DataFrame, *, dimension: int = 4, model: str = "m1", seed: int = 0) -> pl.DataFrame:
    vectors = np.random.default_rng(seed).normal(size=(instances.height, dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return instances.select("instance_id", "episode", "cutout_sha256").with_columns(
        pl.lit(model).alias("model_fingerprint"),
        pl.Series("vector", vectors, dtype=pl.Array(pl.Float32, dimension)),
    )


def write_episode(
    root: UPath, episode: str, frame_count: int = 4, *, dimension: int = 4, model: str = "m1"
) -> dict[str, UPath]:
    """Write instances (two to a frame) and embeddings of an episode; return table -> file."""
    rows = [instance_row(episode, frame, index, weight=frame + 1) for frame in range(frame_count) for index in (0, 1)]
    instances = INSTANCES.from_rows(rows)
    files = {name: root / name / f"{episode}.parquet" for name in ("instances", "embeddings")}
    write_table(INSTANCES, instances, files["instances"])
    write_table(EMBEDDINGS, embeddings_of(instances, dimension=dimension, model=model), files["embeddings"])
    return files


def write_characters(root: UPath, members: dict[str, list[str]]) -> dict[str, dict[str, UPath]]:
    """Write characters, members and one event each; return tables for `publish`."""
    characters = [
        {
            "character_id": key,
            "state": "active",
            "member_count": len(ids),
            "episode_count": 1,
            "first_version": 1,
            "last_version": 1,
            "exemplars": ids[:1],
            "centroid": [1.0, float(number), 0.0, 0.0],
            "model_fingerprint": "m1",
        }
        for number, (key, ids) in enumerate(members.items())
    ]
    rows = [
        {"character_id": key, "instance_id": i, "episode": i.split("/")[0], "probability": 1.0, "centroid_cosine": 0.9}
        for key, ids in members.items()
        for i in ids
    ]
    events = [
        {
            "event_id": number,
            "registry_version": 1,
            "at": datetime(2026, 1, 1, tzinfo=UTC),
            "character_id": key,
            "kind": "born",
            "other_id": None,
            "member_count": len(ids),
            "note": "",
        }
        for number, (key, ids) in enumerate(members.items())
    ]
    written: dict[str, dict[str, UPath]] = {}
    tables: list[tuple[TableSpec, list[dict[str, Any]]]] = [(CHARACTERS, characters), (MEMBERS, rows), (EVENTS, events)]
    for spec, table_rows in tables:
        file = root / f"{spec.name}.parquet"
        write_table(spec, spec.from_rows(table_rows), file)
        written[spec.name] = {"": file}
    return written
