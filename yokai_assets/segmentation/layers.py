"""The character layer of an episode: representatives cut out, written as files, told as table `instances`.

Files and tables; what an instance is, is decided in `instances`, what was done before is kept in `memory`.
"""

import io
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from PIL import Image
from upath import UPath

from yokai_assets.devices import halving_batches
from yokai_assets.frames.decoding import FrameError, open_image
from yokai_assets.frames.reader import decoder_threads, iter_frames
from yokai_assets.progress import Progress, silent
from yokai_assets.segmentation.instances import Instance, find_instances
from yokai_assets.segmentation.matte import Matte
from yokai_assets.segmentation.memory import InstanceMemory
from yokai_assets.settings.model import SegmentationSettings
from yokai_assets.storage.files import TEMPORARY_MARK, is_local, sha256_of_parts, write_bytes
from yokai_assets.storage.layout import Layout
from yokai_assets.tables import INSTANCES

_BATCHES_AHEAD = 2
_WEBP_METHOD = 0
"""Lossless alpha takes 2.6 times as long from method 1 on, and the file is a tenth smaller."""
_LEFTOVER_SECONDS = 3600
_FRAME_ERRORS = (ValueError, ArithmeticError, IndexError)
"""What Pillow and numpy raise on pictures of absurd sizes; a network or disk that fails raises others."""


@dataclass(frozen=True, slots=True)
class FrameProblem:
    """A frame that could not be cut: which, why, what to do."""

    frame_id: str
    source: str
    reason: str
    remedy: str


@dataclass(frozen=True, slots=True)
class SegmentationResult:
    """Table `instances` of an episode, and how it came about.

    `representative_count` frames were asked for, `present_count` of them show a character, `reused_count` were known.
    """

    instances: pl.DataFrame
    problems: list[FrameProblem]
    representative_count: int
    present_count: int
    reused_count: int


def segment_episode(
    frames: pl.DataFrame,
    frames_source: UPath,
    matte: Matte,
    settings: SegmentationSettings,
    layout: Layout,
    *,
    previous: pl.DataFrame | None = None,
    progress: Progress = silent,
) -> SegmentationResult:
    """Cut the characters out of an episode's representative frames.

    Decoding, network and encoding run side by side, with a bounded number of frames in memory. A frame whose content
    this matte has cut before, here or in a run that was killed, is taken over with its files. Cut-outs of earlier runs
    stay on disk: after the table is stored, call `remove_stale_cutouts`.

    Args:
        frames: Table `frames` of one episode.
        frames_source: What its `source` is relative to.
        matte: From `matte.open_matte`.
        settings: Thresholds, limits, batch size, quality.
        layout: Where cut-outs go.
        previous: Table `instances` of this episode from an earlier run.
        progress: Told after every batch.

    Returns:
        Instances in order of frames; frames that could not be read or cut are problems.

    Raises:
        OSError: Cut-outs cannot be written.
    """
    is_representative = (pl.col("status") == "ok") & (pl.col("representative") == pl.col("frame_id"))
    weights = frames.group_by("representative").len("weight").with_columns(pl.col("weight").cast(pl.Int32))
    wanted = frames.filter(is_representative).join(weights, on="representative", how="left", maintain_order="left")
    if wanted.is_empty():
        return SegmentationResult(INSTANCES.empty(), [], 0, 0, 0)
    folder = layout.character_layers(wanted["episode"][0])
    memory = InstanceMemory(folder, matte.fingerprint, previous)
    is_known = pl.Series([sha256 in memory for sha256 in wanted["content_sha256"]], dtype=pl.Boolean)
    to_cut = wanted.filter(~is_known).unique("content_sha256", keep="first", maintain_order=True)
    problems: list[FrameProblem] = []
    reused = int(is_known.sum())
    done = wanted.height - to_cut.height
    progress(done, wanted.height)
    cutter = _Cutter(settings, layout, folder)
    for row, result in cut_frames(to_cut, frames_source, matte, settings.batch_size, cutter):
        done += 1
        if isinstance(result, FrameError):
            problems.append(FrameProblem(row["frame_id"], row["source"], result.reason, result.remedy))
        else:
            memory.remember(row["content_sha256"], result)
        if done % settings.batch_size == 0 or done == wanted.height:
            progress(done, wanted.height)
    memory.save(keep=set(wanted["content_sha256"]))
    instances, present = _as_table(wanted, memory, matte.fingerprint)
    return SegmentationResult(instances, problems, wanted.height, present, reused)


def load_cutout(layout: Layout, relative: str) -> Image.Image:
    """Load a cut-out.

    Returns:
        RGBA; the frame's own colours everywhere in the box, also where alpha is 0.

    Raises:
        FrameError: The file is gone or damaged.
    """
    path = layout.absolute(relative)
    try:
        with open_image(io.BytesIO(path.read_bytes())) as image:
            return image.convert("RGBA")
    except Exception as error:
        raise FrameError(
            str(path), f"the cut-out cannot be read ({error})", "Materialize the episode's `character_layers` again."
        ) from error


def remove_stale_cutouts(instances: pl.DataFrame, layout: Layout, episode: str) -> int:
    """Remove an episode's cut-outs that its stored table does not name; call it after the table is stored.

    Returns:
        How many files were removed.
    """
    named = {cutout.rpartition("/")[2] for cutout in instances["cutout"]}
    return remove_unnamed(layout.character_layers(episode), named)


def remove_unnamed(folder: UPath, named: set[str]) -> int:
    """Remove WebP files that are not in `named`, and what killed writers left behind an hour ago or more."""
    if not folder.exists():
        return 0
    removed = 0
    for file in list(folder.iterdir()):
        is_stale = file.name.endswith(".webp") and not file.name.startswith(".") and file.name not in named
        if is_stale or _is_leftover(file):
            file.unlink(missing_ok=True)
            removed += 1
    return removed


def _is_leftover(file: UPath) -> bool:
    if TEMPORARY_MARK not in file.name or not is_local(file):
        return False
    try:
        return time.time() - Path(str(file)).stat().st_mtime > _LEFTOVER_SECONDS
    except OSError:
        return False


def cut_frames(
    rows: pl.DataFrame,
    frames_source: UPath,
    matte: Matte,
    batch_size: int,
    cut: Callable[[dict[str, Any], Image.Image, Any], list[dict[str, Any]] | FrameError],
) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]] | FrameError]]:
    """Read frames, show them to the matte, and hand each to `cut`, side by side with a bounded number in memory.

    Args:
        rows: Rows of `frames`.
        frames_source: What `source` is relative to.
        matte: From `matte.open_matte`.
        batch_size: Frames that the matte sees at once.
        cut: Given row, frame and probability, returns what is to be kept of the frame; runs in threads.

    Yields:
        Row, and what `cut` returned or why the frame cannot be cut; in no particular order.

    Raises:
        Exception: What the network or the disk raises.
    """
    with (
        ThreadPoolExecutor(_BATCHES_AHEAD, thread_name_prefix="network") as network,
        ThreadPoolExecutor(decoder_threads(), thread_name_prefix="cut-out") as cutters,
    ):
        batches: deque[tuple[list[tuple[dict[str, Any], Image.Image]], Future[list[Any]]]] = deque()
        waiting: deque[tuple[dict[str, Any], Future[list[dict[str, Any]] | FrameError]]] = deque()

        def drain(most_batches: int, most_waiting: int) -> Iterator[tuple[dict[str, Any], Any]]:
            while len(batches) > most_batches:
                batch, future = batches.popleft()
                for (row, image), probability in zip(batch, future.result(), strict=True):
                    if isinstance(probability, FrameError):
                        yield row, probability
                    else:
                        waiting.append((row, cutters.submit(cut, row, image, probability)))
            while len(waiting) > most_waiting:
                row, cut_out = waiting.popleft()
                yield row, cut_out.result()

        batch: list[tuple[dict[str, Any], Image.Image]] = []
        for row, image in iter_frames(rows, frames_source):
            if isinstance(image, FrameError):
                yield row, image
                continue
            batch.append((row, image))
            if len(batch) == batch_size:
                batches.append((batch, network.submit(_raw, matte, batch)))
                batch = []
                yield from drain(_BATCHES_AHEAD - 1, 2 * decoder_threads())
        if batch:
            batches.append((batch, network.submit(_raw, matte, batch)))
        yield from drain(0, 0)


def _raw(matte: Matte, batch: Sequence[tuple[dict[str, Any], Image.Image]]) -> list[Any]:
    """Return the probability of every frame of a batch, or the error of a frame that the network cannot be shown."""
    try:
        parts = halving_batches(batch, len(batch), lambda part: matte.raw([image for _, image in part]))
        return [probability for _, found in parts for probability in found]
    except _FRAME_ERRORS as error:
        if len(batch) == 1:
            return [_odd_frame(*batch[0], error)]
    return [_raw(matte, [one])[0] for one in batch]


def _odd_frame(row: dict[str, Any], image: Image.Image, error: Exception) -> FrameError:
    return FrameError(
        row["source"],
        f"a frame of {image.width}x{image.height} px cannot be cut out ({' '.join(str(error).split())})",
        "Remove it, or scale it to the size of the other frames.",
    )


@dataclass(frozen=True, slots=True)
class _Cutter:
    """Cuts one frame and writes its files; run in threads."""

    settings: SegmentationSettings
    layout: Layout
    folder: UPath

    def __call__(self, row: dict[str, Any], image: Image.Image, probability: Any) -> list[dict[str, Any]] | FrameError:
        try:
            return [
                self._write(row["frame_index"], index, image, instance)
                for index, instance in enumerate(find_instances(image, probability, self.settings))
            ]
        except _FRAME_ERRORS as error:
            return _odd_frame(row, image, error)

    def _write(self, frame_index: int, index: int, image: Image.Image, found: Instance) -> dict[str, Any]:
        colours = np.asarray(image.crop((found.x0, found.y0, found.x1, found.y1)))
        pixels = np.dstack([colours, found.alpha])
        sha256 = sha256_of_parts(pixels.tobytes(), [*pixels.shape, self.settings.cutout_quality])
        # The name carries the content: a file, once written, never changes under a reader.
        path = self.folder / f"{frame_index:06d}_{index}_{sha256[:16]}.webp"
        write_bytes(path, encode_cutout(Image.fromarray(pixels), self.settings.cutout_quality))
        return {
            "instance_index": index,
            "x0": found.x0,
            "y0": found.y0,
            "x1": found.x1,
            "y1": found.y1,
            "frame_width_px": image.width,
            "frame_height_px": image.height,
            "area_share": found.area_share,
            "presence": found.presence,
            "edge_contact_share": found.edge_contact_share,
            "lobe_count": found.lobe_count,
            "sharpness": found.sharpness,
            "luma_mean": found.luma_mean,
            "cutout": self.layout.relative(path),
            "cutout_sha256": sha256,
        }


def encode_cutout(cutout: Image.Image, quality: int) -> bytes:
    """Return a cut-out (RGBA) as the bytes of its file."""
    buffer = io.BytesIO()
    # `exact` keeps the colours under transparency: without them, scaling would draw a dark fringe around the figure.
    cutout.save(
        buffer, "WEBP", quality=quality, lossless=quality == 100, alpha_quality=100, exact=True, method=_WEBP_METHOD
    )
    return buffer.getvalue()


def _as_table(wanted: pl.DataFrame, memory: InstanceMemory, fingerprint: str) -> tuple[pl.DataFrame, int]:
    rows: list[dict[str, Any]] = []
    present = 0
    for frame in wanted.iter_rows(named=True):
        if frame["content_sha256"] not in memory:
            continue
        found = memory.instances(frame["content_sha256"])
        present += bool(found)
        rows.extend(
            {
                **instance,
                "instance_id": f"{frame['frame_id']}/{instance['instance_index']}",
                "frame_id": frame["frame_id"],
                "episode": frame["episode"],
                "frame_index": frame["frame_index"],
                "shot": frame["shot"],
                "weight": frame["weight"],
                "frame_sha256": frame["content_sha256"],
                "matte_fingerprint": fingerprint,
            }
            for instance in found
        )
    return INSTANCES.from_rows(rows), present
