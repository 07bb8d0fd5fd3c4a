"""Pictures as vectors, real and drawn ones treated alike: the character cut out, on the same neutral grey.

Without a matte whole pictures are compared, on both sides. What is measured on the vectors is `measures`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import polars as pl
from PIL import Image

from yokai_assets.datasets import load_training_image
from yokai_assets.devices import halving_batches
from yokai_assets.embedding.instances import neutral_ground
from yokai_assets.frames.decoding import IMAGE_ERRORS
from yokai_assets.storage.layout import Layout

_MASK_LEVEL = 128


class ImageTextEncoder(Protocol):
    """The part of `embedding.model.ImageTextModel` that evaluation needs."""

    @property
    def fingerprint(self) -> str:
        """sha256 of model and preprocessing."""
        ...

    def embed_images(self, images: list[Image.Image]) -> np.ndarray:
        """Return unit vectors, f32 [N, D]."""
        ...

    def embed_texts(self, texts: list[str]) -> np.ndarray:
        """Return unit vectors, f32 [N, D]."""
        ...


class CharacterMatte(Protocol):
    """The part of `segmentation.matte.Matte` that evaluation needs."""

    def raw(self, images: list[Image.Image]) -> list[np.ndarray]:
        """Return the network's raw output per image, f32 [H, W] in 0..1."""
        ...


@dataclass(slots=True)
class RealImages:
    """Images of one split: their ids, rows of `DATASET` by id, vectors, some pictures, and what could not be read."""

    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    instance_ids: list[str] = field(default_factory=list)
    vectors: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    shown: list[Image.Image] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def identity(self) -> list[tuple[str, str]]:
        """What the images are, however they were embedded: id and hash of pixels and mask."""
        return [(name, self.rows[name]["image_sha256"]) for name in self.instance_ids]


def read_real_images(
    rows: pl.DataFrame,
    layout: Layout,
    encoder: ImageTextEncoder,
    grey: int,
    *,
    is_cut_out: bool,
    shown_count: int = 0,
) -> RealImages:
    """Embed dataset images.

    Args:
        rows: Rows of `DATASET`.
        layout: Where the images lie.
        encoder: The image encoder.
        grey: Level of the neutral ground (0-255).
        is_cut_out: Cut the character out by the dataset's mask, or compare whole images.
        shown_count: Images kept for pictures of the result, evenly spread.

    Returns:
        What could be read; an unreadable image is named in `problems`.
    """
    real = RealImages()
    prepared: list[Image.Image] = []
    wanted = set(np.linspace(0, rows.height - 1, min(shown_count, rows.height)).round().astype(int).tolist())
    for number, row in enumerate(rows.sort("instance_id").iter_rows(named=True)):
        try:
            image, mask = load_training_image(layout, row)
            if mask.size != image.size:
                raise ValueError(f"its mask is {mask.size}, the image {image.size} px")
        except IMAGE_ERRORS as error:
            real.problems.append(f"{row['image']}: {error}")
            continue
        real.instance_ids.append(row["instance_id"])
        real.rows[row["instance_id"]] = row
        prepared.append(_on_ground(image, np.asarray(mask) if is_cut_out else None, grey))
        if number in wanted:
            real.shown.append(image)
    real.vectors = encoder.embed_images(prepared) if prepared else real.vectors
    return real


def embed_drawn(
    images: Sequence[Image.Image],
    encoder: ImageTextEncoder,
    matte: CharacterMatte | None,
    threshold: float,
    grey: int,
    batch_size: int,
) -> np.ndarray:
    """Return unit vectors f32 [N, D] of drawn pictures, the character cut out where a matte is given.

    A picture in which the matte finds nothing is compared as a whole: it does not show the character, and its
    vector will say so. The matte sees at most `batch_size` pictures at a time, and fewer where memory runs out.
    """
    if matte is None:
        return encoder.embed_images([_on_ground(image, None, grey) for image in images])
    prepared: list[Image.Image] = []
    for batch, masks in halving_batches(images, batch_size, lambda part: matte.raw(list(part))):
        prepared += [
            _on_ground(image, (raw * 255).clip(0, 255).astype(np.uint8) if (raw >= threshold).any() else None, grey)
            for image, raw in zip(batch, masks, strict=True)
        ]
    return encoder.embed_images(prepared)


def exemplar_vectors(
    characters: pl.DataFrame,
    embeddings: pl.DataFrame,
    members: pl.DataFrame,
    model_fingerprint: str,
    also: str,
) -> dict[str, np.ndarray]:
    """Return the exemplars' unit vectors [M, D] of every active character, and of character `also`.

    A character without embedded exemplars is represented by its most typical members.
    """
    usable = embeddings.filter(pl.col("model_fingerprint") == model_fingerprint)
    vectors: dict[str, Any] = dict(zip(usable["instance_id"], usable["vector"], strict=True))
    found: dict[str, np.ndarray] = {}
    wanted = characters.filter((pl.col("state") == "active") | (pl.col("character_id") == also))
    for row in wanted.sort("character_id").iter_rows(named=True):
        own = _stack(row["exemplars"] or [], vectors)
        if own is None:
            typical = members.filter(pl.col("character_id") == row["character_id"])
            own = _stack(
                typical.sort("centroid_cosine", "instance_id", descending=[True, False])["instance_id"].head(12),
                vectors,
            )
        if own is not None:
            found[row["character_id"]] = own
    return found


def _stack(instance_ids: Iterable[str], vectors: dict[str, Any]) -> np.ndarray | None:
    own = [np.asarray(vectors[name], np.float32) for name in instance_ids if name in vectors]
    return np.stack(own) if own else None


def _on_ground(image: Image.Image, mask: np.ndarray | None, grey: int) -> Image.Image:
    """Return the image, or what u8 [H, W] `mask` keeps of it, on a neutral square."""
    cutout = image.convert("RGBA")
    if mask is not None and (mask >= _MASK_LEVEL).any():
        cutout.putalpha(Image.fromarray(mask, "L"))
        rows, columns = np.nonzero(mask >= _MASK_LEVEL)
        cutout = cutout.crop((int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1))
    return neutral_ground(cutout, grey)
