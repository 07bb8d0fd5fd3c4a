"""What every materialization says of itself: rows, bytes, seconds, one picture, the settings it was made with.

Formatting for Dagster only; numbers and pictures are made by the library.
"""

import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from operator import attrgetter
from typing import Any

import dagster as dg
import polars as pl
from PIL import Image
from pydantic import BaseModel
from upath import UPath

from yokai_assets.frames.decoding import open_image
from yokai_assets.model_identity import ModelKind, model_identity
from yokai_assets.settings import Settings
from yokai_assets.settings.training import TrainingSettings

SETTINGS_TAG = "yokai/settings"
SOURCE_TAG = "yokai/source"
MODEL_TAG = "yokai/model"
CODE_VERSION_TAG = "dagster/code_version"

ASSET_SETTINGS: dict[str, tuple[str, ...]] = {
    "frames": ("frames", "frames_source"),
    "character_layers": ("segmentation",),
    "background_layers": ("background",),
    "embeddings": ("embedding",),
    "repeated_frames": ("frames.near_duplicate_bits", "frames.near_duplicate_luma"),
    "embedding_index": (),
    "clusters": ("clustering", "seed"),
    "group_quality": ("clustering", "seed"),
    "character_registry": ("registry",),
    "regularisation_set": ("dataset.regularisation_images", "training.resolution_px", "seed"),
    "character_members": (),
    "character_profile": ("analysis", "seed"),
    "captions": ("captions", "series"),
    "training_dataset": ("dataset", "training.resolution_px", "seed"),
    "lora_model": ("training", "seed"),
    "lora_evaluation": ("evaluation", "seed"),
    "published_lora": (),
    "lora_comparison": ("seed",),
    "catalog": (),
    "gallery": (),
}
"""Settings whose change makes an asset stale. Stage parameters only: a device or a batch size changes no result."""

_WITHOUT_EFFECT = {
    "batch_size",
    "recluster_share",
    "keep_training_state",
    "save_diffusers_format",
    "max_unreadable_share",
    "max_noise_share",
    "max_stray_share",
}


ASSET_MODELS: dict[str, tuple[ModelKind, ...]] = {
    "character_layers": ("matte",),
    "embeddings": ("clip",),
    "character_profile": ("clip",),
    "captions": ("clip", "readers"),
    "lora_model": ("base",),
    "lora_evaluation": ("base", "clip", "matte"),
}
"""Models whose exchange makes an asset stale: other files under the same setting are another model."""


def settings_fingerprint(settings: Settings, asset: str) -> str:
    """Return a short hash of the settings that the asset depends on, and of which model files they mean."""
    values = {key: _effective(attrgetter(key)(settings)) for key in ASSET_SETTINGS[asset]}
    values |= {f"model {kind}": model_identity(settings, kind) for kind in ASSET_MODELS.get(asset, ())}
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _effective(value: Any) -> Any:
    if not isinstance(value, BaseModel):
        return value
    fields = {key: item for key, item in value.model_dump().items() if key not in _WITHOUT_EFFECT}
    if isinstance(value, TrainingSettings) and (value.preset != "guide" or value.optimizer == "prodigy"):
        # There it matters what a person has set: that stays, and the rest is filled in.
        fields["set"] = sorted(value.model_fields_set)
    return fields


def table_version(frame: pl.DataFrame, without: tuple[str, ...] = ()) -> str:
    """Return a hash of a table's content: equal rows, equal version, whoever made them and when."""
    buffer = io.BytesIO()
    frame.drop(without, strict=False).write_ipc(buffer)
    return hashlib.sha256(buffer.getvalue()).hexdigest()[:32]


def picture(image: Image.Image | UPath, alt: str) -> dg.MarkdownMetadataValue:
    """Return an image, or a file of one on any store, as metadata: a WebP of at most 60 kB inside Markdown."""
    from yokai_assets.previews import encode_preview, markdown_image

    if not isinstance(image, Image.Image):
        with image.open("rb") as file:
            image = open_image(file)
            image.load()
    return dg.MetadataValue.md(markdown_image(encode_preview(image), alt))


def records(frame: pl.DataFrame, limit: int = 20) -> dg.TableMetadataValue:
    """Return the first rows of a small frame as a metadata table."""
    rows = [
        dg.TableRecord({key: _plain(value) for key, value in row.items()})
        for row in frame.head(limit).iter_rows(named=True)
    ]
    return dg.MetadataValue.table(
        rows, schema=dg.TableSchema([dg.TableColumn(name, str(dtype).lower()) for name, dtype in frame.schema.items()])
    )


def _plain(value: Any) -> Any:
    if isinstance(value, bool | int | str) or value is None:
        return value
    return round(value, 4) if isinstance(value, float) else str(value)


def made(
    asset: str,
    settings: Settings,
    *,
    value: pl.DataFrame | None = None,
    version: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
    is_partitioned: bool = True,
) -> dg.MaterializeResult:
    """Return the result of a step: its rows, its content version, and what to show.

    Args:
        asset: Name of the asset.
        settings: Settings that it was made with.
        value: Rows, for table assets.
        version: Content version; unset: that of the rows.
        metadata: Numbers, pictures, tables.
        tags: Further tags of the materialization.
        is_partitioned: Which of Dagster's two row counts applies.
    """
    shown: dict[str, Any] = dict(metadata or {})
    if value is not None:
        shown["dagster/partition_row_count" if is_partitioned else "dagster/row_count"] = value.height
        version = version or table_version(value)
    arguments: dict[str, Any] = {} if value is None else {"value": value}
    return dg.MaterializeResult(
        metadata=shown,
        data_version=dg.DataVersion(version) if version else None,
        tags={SETTINGS_TAG: settings_fingerprint(settings, asset), **(tags or {})},
        **arguments,
    )


class Stopwatch:
    """Seconds of a block."""

    seconds: float = 0.0


@contextmanager
def timed() -> Iterator[Stopwatch]:
    """Time a block; read `.seconds` after it."""
    import time

    watch, start = Stopwatch(), time.perf_counter()
    try:
        yield watch
    finally:
        watch.seconds = round(time.perf_counter() - start, 3)
