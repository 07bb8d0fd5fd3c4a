"""Typed table specs: one place that says which columns exist, what they mean and in which unit.

`spec` is the mechanism, `catalogue` the tables. Reading and writing belongs to `yokai_assets.storage`.
"""

from yokai_assets.tables.catalogue import (
    ALL_TABLES,
    BACKGROUNDS,
    CAPTIONS,
    CHARACTERS,
    CLUSTERS,
    DATASET,
    DECISIONS,
    EMBEDDINGS,
    EVALUATIONS,
    EVENTS,
    FRAMES,
    GROUPS,
    INSTANCES,
    LORA_COMPARISONS,
    MEMBERS,
    REPEATS,
)
from yokai_assets.tables.spec import VECTOR, Column, TableError, TableSpec

__all__ = [
    "ALL_TABLES",
    "BACKGROUNDS",
    "CAPTIONS",
    "CHARACTERS",
    "CLUSTERS",
    "DATASET",
    "DECISIONS",
    "EMBEDDINGS",
    "EVALUATIONS",
    "EVENTS",
    "FRAMES",
    "GROUPS",
    "INSTANCES",
    "LORA_COMPARISONS",
    "MEMBERS",
    "REPEATS",
    "VECTOR",
    "Column",
    "TableError",
    "TableSpec",
]
