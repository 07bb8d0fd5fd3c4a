"""Vectors of character instances: every cut-out on a neutral ground, embedded once.

Reading cut-outs belongs to `yokai_assets.segmentation`, the model to `model`.
"""

from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import polars as pl
from PIL import Image

from yokai_assets.frames.decoding import FrameError
from yokai_assets.progress import Progress, silent
from yokai_assets.segmentation.cutouts import cutout_batches
from yokai_assets.segmentation.restoring import Restore, nothing_to_restore
from yokai_assets.settings.model import EmbeddingSettings
from yokai_assets.storage.layout import Layout
from yokai_assets.tables import EMBEDDINGS


class ImageEmbedder(Protocol):
    """What embedding needs of a model."""

    @property
    def fingerprint(self) -> str:
        """sha256 of model and preprocessing."""
        ...

    @property
    def dimension(self) -> int:
        """Width of the vectors."""
        ...

    def embed_images(self, images: list[Image.Image], /) -> np.ndarray:
        """Return unit vectors float32 [N, D]."""
        ...


@dataclass(frozen=True, slots=True)
class CutoutProblem:
    """A cut-out that could not be embedded, and why."""

    instance_id: str
    cutout: str
    reason: str
    remedy: str


@dataclass(frozen=True, slots=True)
class EmbeddingResult:
    """Vectors of an episode.

    Attributes:
        table: `EMBEDDINGS`, in the order of the instances; problems have no row.
        problems: Cut-outs that could not be read.
        reused_count: Rows whose vector was computed before, for the same pixels by the same model.
    """

    table: pl.DataFrame
    problems: tuple[CutoutProblem, ...]
    reused_count: int


def neutral_ground(cutout: Image.Image, grey: int, context_share: float = 0.0) -> Image.Image:
    """Lay a cut-out on a grey square, in the middle, so that neither background nor aspect ratio is seen.

    Args:
        cutout: RGBA of any size; its colours are the frame's own, also where alpha is 0.
        grey: Grey of the ground (0-255).
        context_share: How much of the frame shows through the grey, within the cut-out's box.

    Returns:
        RGB, as wide and as high as the cut-out's longer side.
    """
    side = max(cutout.size)
    ground = Image.new("RGB", (side, side), (grey, grey, grey))
    place = ((side - cutout.width) // 2, (side - cutout.height) // 2)
    frame = cutout.convert("RGB")
    if context_share > 0.0:
        ground.paste(Image.blend(Image.new("RGB", cutout.size, (grey, grey, grey)), frame, context_share), place)
    ground.paste(frame, place, mask=cutout.getchannel("A"))
    return ground


def embed_instances(
    instances: pl.DataFrame,
    layout: Layout,
    model: ImageEmbedder,
    settings: EmbeddingSettings,
    *,
    previous: pl.DataFrame | None = None,
    progress: Progress = silent,
    restore: Restore = nothing_to_restore,
) -> EmbeddingResult:
    """Embed the cut-outs of a table of instances.

    Equal pixels are embedded once; pixels that `previous` holds a vector for, of this very model, are not read.
    Cut-outs are read ahead by threads while the model computes. One that cannot be read is a problem, not a failure.

    Args:
        instances: `INSTANCES`.
        layout: Where cut-outs lie.
        model: The image model.
        settings: Batch size and ground.
        previous: `EMBEDDINGS` of an earlier run.
        progress: Told about cut-outs.
        restore: Called with the cut-outs that will be read.
    """
    vectors = _known_vectors(previous, model)
    known_before = frozenset(vectors)
    wanted = instances.filter(~pl.col("cutout_sha256").is_in(list(vectors))).unique(
        "cutout_sha256", keep="first", maintain_order=True
    )
    restore(wanted["cutout"])
    unreadable: dict[str, FrameError] = {}
    done = 0
    prepare = partial(neutral_ground, grey=settings.neutral_grey, context_share=settings.context_share)
    for batch in cutout_batches(wanted, layout, settings.batch_size, prepare, unreadable):
        embedded = model.embed_images([image for _, image in batch])
        vectors.update((sha256, vector) for (sha256, _), vector in zip(batch, embedded, strict=True))
        done += len(batch)
        progress(done, wanted.height, f"{len(unreadable)} unreadable" if unreadable else "")
    problems = tuple(
        CutoutProblem(row["instance_id"], row["cutout"], error.reason, error.remedy)
        for row in instances.iter_rows(named=True)
        if (error := unreadable.get(row["cutout_sha256"])) is not None
    )
    rows = instances.filter(pl.col("cutout_sha256").is_in(list(vectors)))
    reused = int(rows["cutout_sha256"].is_in(list(known_before)).sum())
    return EmbeddingResult(_table(rows, vectors, model), problems, reused)


def vector_matrix(embeddings: pl.DataFrame) -> np.ndarray:
    """Return the vectors of a table of embeddings as float32 [N, D]; [0, D] or [0, 0] of an empty one.

    Raises:
        ValueError: The vectors are not of one width.
    """
    column = embeddings["vector"]
    if isinstance(column.dtype, pl.Array):
        return np.ascontiguousarray(column.to_numpy(), dtype=np.float32).reshape(len(column), column.dtype.size)
    widths = column.list.len().unique()
    if len(widths) > 1:
        raise ValueError(
            f"vectors of widths {sorted(widths)} in one table: several models made them. Materialize `embeddings` of "
            "every episode with one model."
        )
    if len(column) == 0:
        return np.zeros((0, 0), dtype=np.float32)
    return column.list.to_array(int(widths[0])).to_numpy().astype(np.float32)


def _known_vectors(previous: pl.DataFrame | None, model: ImageEmbedder) -> dict[str, np.ndarray]:
    if previous is None or previous.height == 0:
        return {}
    usable = previous.filter(pl.col("model_fingerprint") == model.fingerprint)
    if usable.height == 0:
        return {}
    matrix = vector_matrix(usable)
    return dict(zip(usable["cutout_sha256"], matrix, strict=True)) if matrix.shape[1] == model.dimension else {}


def _table(rows: pl.DataFrame, vectors: dict[str, np.ndarray], model: ImageEmbedder) -> pl.DataFrame:
    matrix = np.empty((rows.height, model.dimension), dtype=np.float32)
    for place, sha256 in enumerate(rows["cutout_sha256"]):
        matrix[place] = vectors[sha256]
    table = rows.select("instance_id", "episode", "cutout_sha256").with_columns(
        pl.lit(model.fingerprint).alias("model_fingerprint"),
        pl.Series("vector", matrix, dtype=pl.Array(pl.Float32, model.dimension)),
    )
    return EMBEDDINGS.conform(table)
