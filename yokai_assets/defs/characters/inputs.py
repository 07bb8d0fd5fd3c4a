"""What the character assets read beside their own partition: the registry, and rows of the member's episodes.

Reading only; it exists because rows of *other* domains are not this partition's inputs for an I/O manager.
"""

from dataclasses import dataclass

import dagster as dg
import polars as pl

from yokai_assets.registry import Registry, RegistryStore
from yokai_assets.storage.layout import Layout
from yokai_assets.storage.parquet import read_partitions
from yokai_assets.tables import EMBEDDINGS, FRAMES, INSTANCES


@dataclass(frozen=True, slots=True)
class MemberRows:
    """Instances of every frame that a member is in, members and others; vectors of the members."""

    instances: pl.DataFrame
    embeddings: pl.DataFrame


def load_registry(layout: Layout) -> Registry:
    """Return the newest registry.

    Raises:
        dg.Failure: There is none yet.
    """
    registry = RegistryStore(layout.registry).load()
    if registry is None:
        raise dg.Failure(
            "There is no character registry yet. Materialize `character_registry` first.", allow_retries=False
        )
    return registry


def rows_of(members: pl.DataFrame, layout: Layout) -> MemberRows:
    """Return instances and embeddings for the members, reading only their episodes."""
    episodes = members["episode"].unique().to_list()
    is_member = pl.col("instance_id").is_in(members["instance_id"].implode())
    is_in_company = pl.col("frame_id").is_in(pl.col("frame_id").filter(is_member).implode())
    return MemberRows(
        instances=read_partitions(INSTANCES, layout.tables / "character_layers", episodes, where=is_in_company),
        embeddings=read_partitions(EMBEDDINGS, layout.tables / "embeddings", episodes, where=is_member),
    )


def frames_of(instances: pl.DataFrame, layout: Layout) -> pl.DataFrame:
    """Return the frames that the instances were cut out of."""
    is_wanted = pl.col("frame_id").is_in(instances["frame_id"].unique().implode())
    return read_partitions(FRAMES, layout.tables / "frames", instances["episode"].unique().to_list(), where=is_wanted)
