"""Making removed layers again, just those that somebody is about to read.

Retention (`yokai_assets.retention`) removes layers and notes it. Whoever reads layers hands their paths to a
`LayerRestorer` first. What is there costs a look into a folder; what is noted as removed is cut out of its frame again,
under the name that the tables have: a training set of 200 images out of 200 episodes costs some 470 frames, not 200
episodes. What is missing *without* a note is a fault, and stays the reader's matter.

A network on a GPU does not round the same way in every batch. So a cut-out is put back into the box that the table has,
from the instance that overlaps it best; its mask may differ from the first one by a rounding.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from PIL import Image
from upath import UPath

from yokai_assets.frames.decoding import FrameError
from yokai_assets.progress import Progress, silent
from yokai_assets.retention.ledger import LayerKind, removed_of
from yokai_assets.segmentation.backgrounds import build_backgrounds, plate_frames
from yokai_assets.segmentation.instances import Instance, find_instances
from yokai_assets.segmentation.layers import cut_frames, encode_cutout
from yokai_assets.segmentation.matte import Matte
from yokai_assets.settings.model import BackgroundSettings, SegmentationSettings
from yokai_assets.storage.files import write_bytes
from yokai_assets.storage.layout import Layout
from yokai_assets.storage.parquet import read_columns, read_table
from yokai_assets.tables import BACKGROUNDS, FRAMES, INSTANCES

Restore = Callable[[Iterable[str]], None]
"""Sees to it that layers (cut-outs, plates; relative to the data root) are there, as far as they were removed."""

MIN_OVERLAP = 0.8
"""Intersection over union with the box of the table from which an instance is the one that was cut before."""

_LOG = logging.getLogger(__name__)


class NotRestorableError(RuntimeError):
    """Removed layers cannot be made again as they were; the message names the episodes and the remedy."""


def nothing_to_restore(paths: Iterable[str]) -> None:
    """Take everything for there: what reads layers of a root that nothing was ever removed from."""


@dataclass(slots=True)
class LayerRestorer:
    """Makes removed layers again.

    Attributes:
        layout: Where layers and tables lie.
        frames_source: What frames are cut out of.
        segmentation: Thresholds, limits, quality.
        background: Size and quality of plates.
        open_matte: Opens the matte, called when the first cut-out is wanted.
        progress: Told of frames.
        tell: Told, in words, what is made again.
        restored_count: Files made again so far.
        problems: What could not be made again, in words.
    """

    layout: Layout
    frames_source: UPath
    segmentation: SegmentationSettings
    background: BackgroundSettings
    open_matte: Callable[[], Matte]
    progress: Progress = silent
    tell: Callable[[str], None] = _LOG.info
    restored_count: int = 0
    problems: list[str] = field(default_factory=list)

    def __call__(self, paths: Iterable[str]) -> None:
        """See to it that layers are there.

        A frame that cannot be read any more is a problem, and its cut-outs stay away.

        Args:
            paths: Relative to the data root.

        Raises:
            NotRestorableError: The matte is not the one that cut them.
        """
        gone = self._gone(paths)
        plates = {episode: names for (episode, kind), names in gone.items() if kind is LayerKind.BACKGROUNDS}
        cutouts = {episode: names for (episode, kind), names in gone.items() if kind is LayerKind.CHARACTERS}
        self._restore_cutouts(cutouts)
        for episode, names in plates.items():
            self._restore_plates(episode, names)

    def _gone(self, paths: Iterable[str]) -> dict[tuple[str, LayerKind], set[str]]:
        """Return (episode, kind) -> paths of what was removed and is not there."""
        wanted: dict[tuple[str, LayerKind], set[str]] = {}
        prefix = self.layout.relative(self.layout.layers) + "/"
        for path in paths:
            episode, _, rest = path.removeprefix(prefix).partition("/")
            kind = rest.partition("/")[0]
            if path.startswith(prefix) and kind in tuple(LayerKind):
                wanted.setdefault((episode, LayerKind(kind)), set()).add(path)
        gone = {}
        for (episode, kind), asked in wanted.items():
            if kind in removed_of(self.layout, episode):
                folder = kind.folder(self.layout, episode)
                there = {self.layout.relative(file) for file in folder.iterdir()} if folder.exists() else set()
                if asked - there:
                    gone[episode, kind] = asked - there
        return gone

    def _restore_cutouts(self, by_episode: Mapping[str, set[str]]) -> None:
        if not by_episode:
            return
        columns = ["frame_id", "frame_sha256", "x0", "y0", "x1", "y1", "cutout", "matte_fingerprint"]
        wanted = pl.col("cutout").is_in({path for paths in by_episode.values() for path in paths})
        folder = self.layout.tables / "character_layers"
        rows = read_columns(INSTANCES, folder, columns, by_episode, where=wanted)
        if rows.is_empty():
            return
        matte = self.open_matte()
        self._require(matte, rows)
        frames = read_columns(
            FRAMES, self.layout.tables / "frames", ["frame_id", "source", "content_sha256"], by_episode,
            where=pl.col("frame_id").is_in(rows["frame_id"].unique().implode()),
        )  # fmt: skip
        cut_from = rows.select("frame_id", content_sha256="frame_sha256").unique()
        known = frames.join(cut_from, on=["frame_id", "content_sha256"], how="semi", maintain_order="left")
        self.tell(f"{rows.height} removed cut-outs of {len(by_episode)} episode(s) are wanted: they are cut out again")
        cutter = _Recutter(self.segmentation, self.layout, rows.rows_by_key("frame_id", named=True))
        cut = cut_frames(known, self.frames_source, matte, self.segmentation.batch_size, cutter)
        for done, (row, result) in enumerate(cut, start=1):
            if isinstance(result, FrameError):
                self._note(f"{row['frame_id']}: {result}")
            else:
                self.restored_count += len(result)
            self.progress(done, known.height, "removed cut-outs made again")
        if known.height < rows["frame_id"].n_unique():
            self._note(
                "some frames have changed since; `frames` and `character_layers` of their episodes are out of date"
            )

    def _require(self, matte: Matte, rows: pl.DataFrame) -> None:
        others = rows.filter(pl.col("matte_fingerprint") != matte.fingerprint)
        if others.is_empty():
            return
        episodes = others["frame_id"].str.split("/").list.first().unique().sort().to_list()
        raise NotRestorableError(
            f"Cut-outs of {', '.join(episodes[:5])}{', ...' if len(episodes) > 5 else ''} ({len(episodes)} episode(s)) "
            "were removed to save space and cannot be made again as they were: the matte or its settings have changed. "
            "Materialize `character_layers` of these episodes, or `yokai run`, which does."
        )

    def _restore_plates(self, episode: str, names: set[str]) -> None:
        layout = self.layout
        plates = read_table(BACKGROUNDS, layout.table("background_layers", episode)).filter(
            pl.col("plate").is_in(names)
        )
        frames = read_table(FRAMES, layout.table("frames", episode))
        shown = frames.filter(pl.col("shot").is_in(plates["shot"].implode()))
        instances = read_table(INSTANCES, layout.table("character_layers", episode)).filter(
            pl.col("frame_id").is_in(plate_frames(shown, self.background)["frame_id"].implode())
        )
        self.tell(f"{plates.height} removed plates of {episode} are wanted: they are made again")
        self(instances["cutout"])
        made = build_backgrounds(shown, instances, self.frames_source, self.background, layout, progress=self.progress)
        places = dict(made.select("shot", "plate").iter_rows())
        for shot, plate in plates.select("shot", "plate").iter_rows():
            if shot not in places:
                self._note(f"{plate}: no plate can be made of shot {shot} any more")
            elif places[shot] != plate:
                write_bytes(layout.absolute(plate), layout.absolute(places[shot]).read_bytes())
                layout.absolute(places[shot]).unlink()
            self.restored_count += shot in places

    def _note(self, problem: str) -> None:
        _LOG.warning("a removed layer stays away: %s", problem)
        self.problems.append(problem)


@dataclass(frozen=True, slots=True)
class _Recutter:
    """Cuts the wanted instances of a frame and writes their files; run in threads."""

    settings: SegmentationSettings
    layout: Layout
    wanted: Mapping[Any, list[dict[str, Any]]]

    def __call__(self, row: dict[str, Any], image: Image.Image, probability: Any) -> list[dict[str, Any]] | FrameError:
        found = find_instances(image, probability, self.settings)
        written = []
        for known in self.wanted[row["frame_id"]]:
            box = (known["x0"], known["y0"], known["x1"], known["y1"])
            match = max(found, key=lambda one: overlap(box, (one.x0, one.y0, one.x1, one.y1)), default=None)
            if match is None or overlap(box, (match.x0, match.y0, match.x1, match.y1)) < MIN_OVERLAP:
                return FrameError(row["source"], "shows another character now", "Materialize its `character_layers`.")
            cutout = Image.fromarray(np.dstack([np.asarray(image.crop(box)), _alpha_in(box, match)]))
            write_bytes(self.layout.absolute(known["cutout"]), encode_cutout(cutout, self.settings.cutout_quality))
            written.append(known)
        return written


def overlap(box: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> float:
    """Return intersection over union of two half-open boxes (px)."""
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    shared = max(0, width) * max(0, height)
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (box, other)]
    return shared / (sum(areas) - shared)


def _alpha_in(box: tuple[int, int, int, int], found: Instance) -> np.ndarray:
    """Return the instance's alpha in the window of another box, uint8 [H, W]."""
    window = Image.new("L", (box[2] - box[0], box[3] - box[1]))
    window.paste(Image.fromarray(found.alpha), (found.x0 - box[0], found.y0 - box[1]))
    return np.asarray(window)
