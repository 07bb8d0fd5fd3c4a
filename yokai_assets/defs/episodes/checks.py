"""Checks of one episode: readable frames, characters present, sound vectors."""

import dagster as dg
import numpy as np
import polars as pl

from yokai_assets.defs.checking import judged, partitioned_check
from yokai_assets.defs.episodes import assets
from yokai_assets.defs.partitions import EPISODES
from yokai_assets.defs.resources import SettingsResource
from yokai_assets.embedding.instances import vector_matrix


@partitioned_check(assets.frames, EPISODES, blocking=True)
def frames_are_readable(settings: SettingsResource, frames: pl.DataFrame) -> dg.AssetCheckResult:
    """Few enough frames of the episode are unreadable to go on."""
    limit = settings.load().frames.max_unreadable_share
    unreadable = frames.filter(pl.col("status") == "unreadable")
    share = unreadable.height / max(1, frames.height)
    return judged(
        frames.height > 0 and share <= limit,
        expected=f"at least one frame, at most {limit:.0%} unreadable",
        actual=f"{unreadable.height} of {frames.height} frames unreadable",
        remedy="Copy the named files again from their source, then materialize `frames` of this episode; "
        "or raise `frames.max_unreadable_share`.",
        sample=unreadable.select("source", "reason"),
        unreadable_share=round(share, 4),
    )


@partitioned_check(assets.character_layers, EPISODES, also_reads=("frames",))
def characters_are_present(frames: pl.DataFrame, character_layers: pl.DataFrame) -> dg.AssetCheckResult:
    """The matte found characters in this episode."""
    usable = frames.filter((pl.col("status") == "ok") & (pl.col("representative") == pl.col("frame_id")))
    present = character_layers["frame_id"].n_unique()
    rate = present / max(1, usable.height)
    return judged(
        present > 0 or usable.height == 0,
        expected="characters in at least one frame",
        actual=f"characters in {present} of {usable.height} representative frames",
        remedy="Look at the episode's frames. If characters are there, lower `segmentation.presence_threshold` or "
        "choose another `segmentation.model`.",
        severity=dg.AssetCheckSeverity.WARN,
        presence_rate=round(rate, 4),
    )


@partitioned_check(assets.embeddings, EPISODES, blocking=True)
def vectors_are_sound(embeddings: pl.DataFrame) -> dg.AssetCheckResult:
    """Every vector is finite, of length one, and of one model."""
    matrix = vector_matrix(embeddings)
    norms = np.linalg.norm(matrix, axis=1) if len(matrix) else np.ones(0)
    unsound = ~np.isfinite(norms) | (np.abs(norms - 1) > 1e-3)
    models = embeddings["model_fingerprint"].n_unique()
    return judged(
        not unsound.any() and models <= 1,
        expected="all vectors finite and of length 1, from one model",
        actual=f"{int(unsound.sum())} of {len(matrix)} vectors unsound, {models} model(s)",
        remedy="Materialize `embeddings` of this episode again; if it stays, the model's weights are damaged.",
        sample=embeddings.filter(pl.Series(unsound)).select("instance_id"),
        dimension=matrix.shape[1] if matrix.ndim == 2 else 0,
    )


@partitioned_check(assets.embeddings, EPISODES, blocking=True, also_reads=("character_layers",))
def every_instance_is_embedded(character_layers: pl.DataFrame, embeddings: pl.DataFrame) -> dg.AssetCheckResult:
    """Every instance has its vector."""
    missing = character_layers.join(embeddings, on="instance_id", how="anti")
    return judged(
        missing.height <= 0.02 * character_layers.height,
        expected="a vector for at least 98 % of the instances",
        actual=f"{missing.height} of {character_layers.height} instances without a vector",
        remedy="Cut-outs are missing or damaged: materialize `character_layers` of this episode again.",
        sample=missing.select("instance_id", "cutout"),
    )


CHECKS = [frames_are_readable, characters_are_present, vectors_are_sound, every_instance_is_embedded]
