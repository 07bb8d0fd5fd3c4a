"""What is true about a generated series: who is where in which frame. Reading only.

The truth lies beside the episodes, in ``truth.json`` and the hidden folder ``.truth``; no stage of the platform
reads it. Not here: writing it (:mod:`yokai_assets.demo.series`), holding results against it
(:mod:`yokai_assets.demo.score`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from yokai_assets.demo.creatures import CreatureDesign
from yokai_assets.demo.story import CastMember
from yokai_assets.frames.decoding import open_image

TRUTH_FILE = "truth.json"
TRUTH_FOLDER = ".truth"

FRAMES_SCHEMA = {
    "frame_id": pl.String,
    "episode": pl.String,
    "frame_index": pl.Int32,
    "file": pl.String,
    "shot": pl.Int32,
    "place": pl.String,
    "kind": pl.String,
    "duplicate_of": pl.String,
    "fault": pl.String,
}
"""Frames: `duplicate_of` is the frame_id of the first frame of a hold, null for that frame itself; `fault` is
null, "truncated", "empty" or "misnamed"; a misnamed frame can be read."""

INSTANCES_SCHEMA = {
    "truth_id": pl.String,
    "frame_id": pl.String,
    "episode": pl.String,
    "shot": pl.Int32,
    "character": pl.String,
    "x0": pl.Int32,
    "y0": pl.Int32,
    "x1": pl.Int32,
    "y1": pl.Int32,
    "area_share": pl.Float32,
    "visible_share": pl.Float32,
    "touches_other": pl.Boolean,
    "is_distinct": pl.Boolean,
    "alpha": pl.String,
}
"""Instances: the box (half-open, px) of what is visible (alpha above one half); `area_share` of the frame;
`visible_share` of the whole creature; `touches_other` when its pixels meet another's; `is_distinct` is false in
held frames; `alpha` is the file of the box's alpha, relative to the truth folder."""


class NoTruthError(FileNotFoundError):
    """The folder holds no generated series."""


@dataclass(frozen=True)
class Truth:
    """A generated series and what is true about it.

    `frames` and `instances` follow :data:`FRAMES_SCHEMA` and :data:`INSTANCES_SCHEMA`, all episodes together.
    """

    folder: Path
    seed: int
    size_px: tuple[int, int]
    characters: tuple[CastMember, ...]
    frames: pl.DataFrame
    instances: pl.DataFrame

    def alpha(self, frame_id: str) -> NDArray[np.uint8]:
        """Alpha of all creatures of a frame together, (H, W) uint8."""
        total = np.zeros(self.size_px[::-1], dtype=np.uint16)
        for row in self.instances.filter(pl.col("frame_id") == frame_id).iter_rows(named=True):
            total += self.instance_alpha(row["truth_id"])
        return np.minimum(total, 255).astype(np.uint8)

    def instance_alpha(self, truth_id: str) -> NDArray[np.uint8]:
        """Visible alpha of one instance in its frame, (H, W) uint8.

        Raises:
            KeyError: there is no such instance.
        """
        rows = self.instances.filter(pl.col("truth_id") == truth_id)
        if rows.is_empty():
            raise KeyError(f"no instance {truth_id!r} in the truth of {self.folder}")
        row = rows.row(0, named=True)
        full = np.zeros(self.size_px[::-1], dtype=np.uint8)
        with open_image(self.folder / TRUTH_FOLDER / row["alpha"]) as image:
            full[row["y0"] : row["y1"], row["x0"] : row["x1"]] = np.asarray(image)
        return full

    def readable_frames(self) -> pl.DataFrame:
        """Frames that are not broken on purpose."""
        return self.frames.filter(pl.col("fault").is_null() | (pl.col("fault") == "misnamed"))


def load_truth(folder: Path) -> Truth:
    """The truth of a generated series.

    Raises:
        NoTruthError: there is none; the message says how to make a series.
    """
    path = folder / TRUTH_FILE
    if not path.exists():
        raise NoTruthError(f"{path}: not here. Only generated series have a truth; make one with `yokai demo`.")
    values = json.loads(path.read_text(encoding="utf-8"))
    episodes = sorted((folder / TRUTH_FOLDER / "frames").glob("episode_*.parquet"))
    frames = [pl.read_parquet(file) for file in episodes]
    instances = [pl.read_parquet(folder / TRUTH_FOLDER / "instances" / file.name) for file in episodes]
    return Truth(
        folder=folder,
        seed=values["seed"],
        size_px=(values["size_px"][0], values["size_px"][1]),
        characters=tuple(
            CastMember(one["name"], CreatureDesign(**one["design"]), one["is_rare"]) for one in values["characters"]
        ),
        frames=pl.concat([pl.DataFrame(schema=FRAMES_SCHEMA), *frames]),
        instances=pl.concat([pl.DataFrame(schema=INSTANCES_SCHEMA), *instances]),
    )
