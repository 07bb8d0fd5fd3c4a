"""Policies that hold for every asset, applied once at the root: owners, kinds, groups, versions, pools, automation.

What an asset *does* is in its own module. Pool limits live in `dagster.yaml` and in the instance, not in code.
"""

from dataclasses import dataclass

import dagster as dg

from yokai_assets.defs.automation import BY_ASSET
from yokai_assets.defs.tables import definition_metadata

OWNERS = ["team:characters"]

GPU_POOL = "gpu"
DUCKDB_POOL = "duckdb"


@dataclass(frozen=True, slots=True)
class AssetPolicy:
    """What the platform says of an asset beside its code."""

    group: str
    kinds: tuple[str, ...]
    code_version: str
    pool: str | None = None


POLICIES: dict[str, AssetPolicy] = {
    "frames": AssetPolicy("episodes", ("python", "polars", "parquet"), "3"),
    "character_layers": AssetPolicy("episodes", ("python", "parquet"), "1", pool=GPU_POOL),
    "background_layers": AssetPolicy("episodes", ("python", "parquet"), "1"),
    "embeddings": AssetPolicy("episodes", ("pytorch", "polars", "parquet"), "1", pool=GPU_POOL),
    "repeated_frames": AssetPolicy("series", ("python", "polars", "parquet"), "1"),
    "embedding_index": AssetPolicy("series", ("duckdb", "sql"), "1", pool=DUCKDB_POOL),
    "clusters": AssetPolicy("series", ("scikitlearn", "parquet"), "6"),
    "group_quality": AssetPolicy("series", ("scikitlearn", "parquet"), "2"),
    "character_decisions": AssetPolicy("series", ("json",), "1"),
    "character_registry": AssetPolicy("series", ("python", "parquet"), "2"),
    "regularisation_set": AssetPolicy("series", ("python",), "1"),
    "character_members": AssetPolicy("characters", ("polars", "parquet"), "1"),
    "character_profile": AssetPolicy("characters", ("pytorch", "json"), "2"),
    "captions": AssetPolicy("characters", ("pytorch", "parquet"), "2", pool=GPU_POOL),
    "training_dataset": AssetPolicy("characters", ("python", "parquet"), "2"),
    "lora_model": AssetPolicy("characters", ("pytorch", "huggingface"), "3", pool=GPU_POOL),
    "lora_evaluation": AssetPolicy("characters", ("pytorch", "parquet"), "2", pool=GPU_POOL),
    "published_lora": AssetPolicy("characters", ("huggingface",), "2"),
    "lora_comparison": AssetPolicy("report", ("python", "parquet"), "1"),
    "catalog": AssetPolicy("report", ("duckdb", "sql"), "1", pool=DUCKDB_POOL),
    "gallery": AssetPolicy("report", ("python", "json"), "1"),
}


def with_policy(spec: dg.AssetSpec) -> dg.AssetSpec:
    """Return the spec with the owners, kinds, group, version, automation and table metadata of its asset.

    Raises:
        KeyError: The asset has no policy: every asset must have one.
    """
    name = spec.key.to_user_string()
    policy = POLICIES[name]
    upstream = [dep.asset_key.to_user_string() for dep in spec.deps]
    return spec.replace_attributes(
        owners=OWNERS,
        group_name=policy.group,
        kinds=set(policy.kinds),
        code_version=policy.code_version,
        automation_condition=BY_ASSET.get(name),
        metadata={**spec.metadata, **definition_metadata(name, upstream)},
    )
