"""What the pixels of a cut-out say that its row does not: whether it can be used, and how clean its mask is.

Reading and measuring; which images are chosen is `choice`.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from PIL import Image

from yokai_assets.datasets.selection import QualityLimits
from yokai_assets.frames.decoding import FrameError
from yokai_assets.frames.reader import decoder_threads
from yokai_assets.segmentation.layers import load_cutout
from yokai_assets.storage.layout import Layout

THUMBNAIL_PX = 160
_CLEAR, _SOLID, _HALF = 16, 240, 128


@dataclass(frozen=True, slots=True)
class Look:
    """A cut-out that was read.

    Attributes:
        thumbnail: RGBA, at most 160 px.
        softness: Half-transparent pixels for each solid one.
    """

    thumbnail: Image.Image
    softness: float


def read_cutout(layout: Layout, row: Mapping[str, Any]) -> Image.Image | None:
    """Return the cut-out (RGBA) of a row of INSTANCES; None where it is missing, damaged or not as large as its box."""
    try:
        cutout = load_cutout(layout, row["cutout"])
    except FrameError:
        return None
    return cutout if cutout.size == (row["x1"] - row["x0"], row["y1"] - row["y0"]) else None


def read_looks(rows: pl.DataFrame, layout: Layout) -> dict[str, Look | None]:
    """Return instance_id -> look, of rows of INSTANCES; None where a cut-out cannot be used."""

    def read(row: Mapping[str, Any]) -> Look | None:
        cutout = read_cutout(layout, row)
        if cutout is None:
            return None
        softness = softness_of(np.asarray(cutout.getchannel("A")))
        cutout.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.BOX)
        return Look(cutout, softness)

    with ThreadPoolExecutor(decoder_threads(), thread_name_prefix="cut-out") as pool:
        return dict(zip(rows["instance_id"], pool.map(read, rows.iter_rows(named=True)), strict=True))


def softness_of(alpha: np.ndarray) -> float:
    """Return the half-transparent pixels of a mask (uint8 [H, W]) for each solid one."""
    half = np.count_nonzero((alpha > _CLEAR) & (alpha < _SOLID))
    return half / max(1, np.count_nonzero(alpha >= _HALF))


def faults_of(looks: Mapping[str, Look | None], limits: QualityLimits) -> dict[str, str]:
    """Return instance_id -> reason of `selection.REASONS`, of looks that are not to be trained on."""
    softness = np.array([look.softness for look in looks.values() if look is not None])
    usual = float(np.median(softness)) if len(softness) else 0.0
    limit = min(limits.max_softness, max(0.3, limits.max_softness_ratio * usual))
    return {
        name: "unreadable" if look is None else "soft_mask"
        for name, look in looks.items()
        if look is None or look.softness > limit
    }
