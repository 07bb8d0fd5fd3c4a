"""What the character assets read beside their own partition: the registry, and rows of the member's episodes.

Reading only; it exists because rows of *other* domains are not this partition's inputs for an I/O manager.
"""

from dataclasses import dataclass

import dagster as dg
import numpy as np
import polars as pl
from upath import UPath

from yokai_assets.registry import Registry, RegistryStore
from yokai_assets.storage.layout import Layout
from yokai_assets.storage.parquet import read_columns, read_partitions
from yokai_assets.tables import BACKGROUNDS, EMBEDDINGS, FRAMES, INSTANCES

TYPICAL_COUNT = 100
"""Members beside the exemplars that an evaluation may fall back on."""


@dataclass(frozen=True, slots=True)
class MemberRows:
    """Rows of a character's members.

    Attributes:
        instances: `INSTANCES` of every frame that a member is in, members and others.
        embeddings: `EMBEDDINGS` of the members, all of one model and of the pixels that are there now.
        without_vector_count: Members that have no such vector.
    """

    instances: pl.DataFrame
    embeddings: pl.DataFrame
    without_vector_count: int

    def told(self, context: dg.AssetExecutionContext) -> dict[str, int]:
        """Warn of members without a usable vector, and return their number as metadata."""
        if self.without_vector_count:
            context.log.warning(
                f"{self.without_vector_count} members have no vector of the embedding model in use and are left out. "
                "Materialize `embeddings` of every episode again."
            )
        return {"members_without_vector": self.without_vector_count}


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


def data_version(context: dg.AssetExecutionContext, asset: str) -> str:
    """Return the data version of this partition of an asset; empty where it was never made."""
    found = context.instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=dg.AssetKey(asset), asset_partitions=[context.partition_key]), limit=1
    ).records
    record = found[0].asset_materialization if found else None
    return (record.tags or {}).get("dagster/data_version", "") if record else ""


def rows_of(members: pl.DataFrame, layout: Layout, model_fingerprint: str | None = None) -> MemberRows:
    """Return instances and embeddings for the members, reading only their episodes.

    While episodes are embedded anew there are vectors of two models; they are never mixed.

    Args:
        members: `MEMBERS` of one character.
        layout: Where the tables are.
        model_fingerprint: The model whose vectors are wanted; unset: the one that most members have.

    Raises:
        dg.Failure: No member has a vector of that model.
    """
    instances = instances_of(members, layout)
    is_member = pl.col("instance_id").is_in(members["instance_id"].implode())
    folder, episodes = layout.tables / "embeddings", _episodes(members)
    model = model_fingerprint or _usual_model(folder, episodes, is_member)
    # Models may differ in width: rows of another one are dropped file by file, before files are put together.
    is_usable = is_member & (pl.col("model_fingerprint") == model)
    found = read_partitions(EMBEDDINGS, folder, episodes, where=is_usable)
    usable = found.join(instances, on=["instance_id", "cutout_sha256"], how="semi", maintain_order="left")
    if usable.is_empty():
        raise dg.Failure(
            f"None of the {members.height} members has a vector of the embedding model in use "
            f"({(model or 'none')[:12]}). Materialize `embeddings` of every episode, then the series.",
            allow_retries=False,
        )
    return MemberRows(instances, usable, members.height - usable.height)


def instances_of(members: pl.DataFrame, layout: Layout) -> pl.DataFrame:
    """Return the instances of every frame that a member is in, members and others."""
    is_member = pl.col("instance_id").is_in(members["instance_id"].implode())
    is_in_company = pl.col("frame_id").is_in(pl.col("frame_id").filter(is_member).implode())
    return read_partitions(INSTANCES, layout.tables / "character_layers", _episodes(members), where=is_in_company)


def yardstick_vectors(
    registry: Registry, members: pl.DataFrame, character_id: str, layout: Layout, model_fingerprint: str
) -> pl.DataFrame:
    """Return what an evaluation holds pictures against: few vectors, however many members there are.

    They are those of every active character's exemplars and of this character's most typical members, of one model.
    """
    shown = registry.characters.filter((pl.col("state") == "active") | (pl.col("character_id") == character_id))
    typical = members.sort("centroid_cosine", "instance_id", descending=[True, False]).head(TYPICAL_COUNT)
    exemplars = shown["exemplars"].explode().drop_nulls()
    wanted = pl.concat([typical["instance_id"], exemplars.cast(pl.String)]).unique()
    is_wanted = (pl.col("model_fingerprint") == model_fingerprint) & pl.col("instance_id").is_in(wanted.implode())
    # An instance id begins with its episode, which has no `/`.
    episodes = wanted.str.split("/").list.first().unique().to_list()
    return read_partitions(EMBEDDINGS, layout.tables / "embeddings", episodes, where=is_wanted)


def with_pixels(members: pl.DataFrame, layout: Layout, *, skip_damaged: bool = False) -> pl.DataFrame:
    """Return `instance_id`, `character_id` and `cutout_sha256` of members; the last is empty where there is none.

    What `member_fingerprint` wants: a character whose cut-outs changed is another character to train on.
    """
    folder = layout.tables / "character_layers"
    columns = ["instance_id", "cutout_sha256"]
    cutouts = read_columns(INSTANCES, folder, columns, _episodes(members), skip_damaged=skip_damaged)
    seen = members.select("instance_id", "character_id").join(cutouts, on="instance_id", how="left")
    return seen.with_columns(pl.col("cutout_sha256").fill_null(""))


def _episodes(members: pl.DataFrame) -> list[str]:
    return members["episode"].unique().to_list()


def _usual_model(folder: UPath, episodes: list[str], is_member: pl.Expr) -> str | None:
    """Return the model that most of the members' vectors are of."""
    models = read_columns(EMBEDDINGS, folder, ["instance_id", "model_fingerprint"], episodes, where=is_member)
    counts = models.group_by("model_fingerprint").len()
    return next(iter(counts.sort("len", "model_fingerprint", descending=[True, False])["model_fingerprint"]), None)


def rivals_of(registry: Registry, character_id: str, embeddings: pl.DataFrame) -> np.ndarray | None:
    """Return the other characters' centroids, f32 [R, D], of the model that the vectors are of; None: no other."""
    model = embeddings["model_fingerprint"][0]
    is_other = (pl.col("character_id") != character_id) & (pl.col("member_count") > 0)
    others = registry.characters.filter(is_other & (pl.col("model_fingerprint") == model))["centroid"]
    return np.asarray(others.to_list(), np.float32) if others.len() else None


def plates_of(members: pl.DataFrame, layout: Layout) -> pl.DataFrame:
    """Return the clean plates of the members' episodes; a damaged table is left out."""
    folder, columns = layout.tables / "background_layers", list(BACKGROUNDS.schema)
    return read_columns(BACKGROUNDS, folder, columns, _episodes(members), skip_damaged=True)


def frames_of(instances: pl.DataFrame, layout: Layout) -> pl.DataFrame:
    """Return the frames that the instances were cut out of."""
    is_wanted = pl.col("frame_id").is_in(instances["frame_id"].unique().implode())
    return read_partitions(FRAMES, layout.tables / "frames", instances["episode"].unique().to_list(), where=is_wanted)
