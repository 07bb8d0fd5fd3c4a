"""Clean plates: the background of every shot, with the characters taken out.

Works on the masks of `layers`; how hidden pixels are filled is `inpainting`'s matter.
"""

import io
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from upath import UPath

from yokai_assets.frames.decoding import FrameError
from yokai_assets.frames.reader import iter_frames
from yokai_assets.progress import Progress, silent
from yokai_assets.segmentation.alignment import Picture, uncover
from yokai_assets.segmentation.inpainting import fill_hidden
from yokai_assets.segmentation.layers import load_cutout, remove_unnamed
from yokai_assets.settings.model import BackgroundSettings
from yokai_assets.storage.files import sha256_of_parts, write_bytes
from yokai_assets.storage.layout import Layout
from yokai_assets.tables import BACKGROUNDS

MOTION_LEVELS = 16
"""A background pixel has moved when it is this far (0-255) from the shot's median."""

MOTION_SHARE = 0.05
"""The camera moves when, in half of the frames, more than this share of the visible background has moved."""

_MOTION_WIDTH_PX = 160
_MOST_OTHERS = 6
_MASK_MARGIN_SHARE = 0.008
_ROWS_AT_ONCE = 64
_WEBP_SIDE_PX = 16383


def build_backgrounds(
    frames: pl.DataFrame,
    instances: pl.DataFrame,
    frames_source: UPath,
    settings: BackgroundSettings,
    layout: Layout,
    *,
    progress: Progress = silent,
) -> pl.DataFrame:
    """Make the clean plate of every shot of an episode that has one.

    Of a shot, up to `max_frames_per_shot` representative frames are read, evenly chosen. Where the camera stands, a
    pixel of the plate is the median of the frames that show it there. Where it moves, a median would smear: then the
    frame with the least character area is taken, and what characters hide in it comes from frames around it, shifted
    until their surroundings fit (`alignment`). Whether it moves is judged by how well the median explains the visible
    background of each frame, which sees pans, zooms and rotations alike. Only pixels that no frame shows are filled
    from around them. Dark and blank frames, and shots that are hidden altogether, have no plate.

    Plates of earlier runs stay on disk: after the table is stored, call `remove_stale_plates`.

    Args:
        frames: Table `frames` of one episode.
        instances: Table `instances` of the same episode.
        frames_source: What `source` is relative to.
        settings: Frames per shot, size and quality of plates.
        layout: Where plates go.
        progress: Told after every shot.

    Returns:
        Table `backgrounds`; frames that cannot be read are passed over.

    Raises:
        OSError: Plates cannot be written.
    """
    chosen = plate_frames(frames, settings)
    if chosen.is_empty():
        return BACKGROUNDS.empty()
    maker = _PlateMaker(settings, layout, _masks_by_frame(instances))
    total = chosen["shot"].n_unique()
    rows: list[dict[str, Any]] = []
    for done, plate in enumerate(_make_all(chosen, frames_source, maker), start=1):
        if plate is not None:
            rows.append(plate)
        progress(done, total)
    return BACKGROUNDS.from_rows(rows)


def plate_frames(frames: pl.DataFrame, settings: BackgroundSettings) -> pl.DataFrame:
    """Return the rows of the frames that the plates of an episode are made of: up to so many of each shot, in order."""
    is_representative = (pl.col("status") == "ok") & (pl.col("representative") == pl.col("frame_id"))
    candidates = frames.filter(is_representative).sort("frame_index")
    if candidates.is_empty():
        return candidates
    return pl.concat(
        [_evenly(shot, settings.max_frames_per_shot) for shot in candidates.partition_by("shot", maintain_order=True)]
    )


def remove_stale_plates(backgrounds: pl.DataFrame, layout: Layout, episode: str) -> int:
    """Remove an episode's plates that its stored table does not name; call it after the table is stored.

    Returns:
        How many files were removed.
    """
    named = {plate.rpartition("/")[2] for plate in backgrounds["plate"]}
    return remove_unnamed(layout.background_layers(episode), named)


def _evenly(rows: pl.DataFrame, most: int) -> pl.DataFrame:
    if rows.height <= most:
        return rows
    return rows[np.linspace(0, rows.height - 1, most).round().astype(int).tolist()]


@dataclass(frozen=True, slots=True)
class _Mask:
    cutout: str
    x0: int
    y0: int


def _masks_by_frame(instances: pl.DataFrame) -> dict[str, list[_Mask]]:
    masks: dict[str, list[_Mask]] = {}
    for frame_id, cutout, x0, y0 in instances.select("frame_id", "cutout", "x0", "y0").iter_rows():
        masks.setdefault(frame_id, []).append(_Mask(cutout, x0, y0))
    return masks


def _make_all(chosen: pl.DataFrame, frames_source: UPath, maker: "_PlateMaker") -> Iterator[dict[str, Any] | None]:
    """Yield the row of every shot in order; one shot is computed while the next one is read."""
    with ThreadPoolExecutor(1, thread_name_prefix="plate") as pool:
        ahead: deque[Future[dict[str, Any] | None]] = deque()
        for _, run in groupby(iter_frames(chosen, frames_source), key=lambda item: item[0]["shot"]):
            ahead.append(pool.submit(maker.make, [maker.shrink(row, image) for row, image in run]))
            if len(ahead) > 1:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


@dataclass(frozen=True, slots=True)
class _View:
    """A frame at plate size, with the pixels that characters hide."""

    row: dict[str, Any]
    picture: Picture


@dataclass(frozen=True, slots=True)
class _PlateMaker:
    settings: BackgroundSettings
    layout: Layout
    masks: dict[str, list[_Mask]]

    def shrink(self, row: dict[str, Any], image: Image.Image | FrameError) -> _View | None:
        """Scale a frame to plate size; None if it, or a mask of it, cannot be read."""
        if isinstance(image, FrameError):
            return None
        hidden = Image.new("L", image.size)
        try:
            for mask in self.masks.get(row["frame_id"], []):
                alpha = load_cutout(self.layout, mask.cutout).getchannel("A")
                hidden.paste(255, (mask.x0, mask.y0), alpha)
        except FrameError:
            return None
        scale = min(1.0, self.settings.max_width_px / image.width, _WEBP_SIDE_PX / image.height)
        size_px = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        # Outlines and compression noise reach beyond the mask: it is grown by a little.
        margin_px = max(1, round(_MASK_MARGIN_SHARE * min(size_px)))
        grown = hidden.resize(size_px, Image.Resampling.BOX).filter(ImageFilter.MaxFilter(2 * margin_px + 1))
        pixels = np.asarray(image.resize(size_px, Image.Resampling.LANCZOS) if scale < 1 else image)
        return _View(row, Picture(pixels, np.asarray(grown) > 12))

    def make(self, views: list[_View | None]) -> dict[str, Any] | None:
        """Make a shot's plate and write it; None if nothing of its background is visible."""
        seen = [view for view in views if view is not None and not view.picture.is_hidden.all()]
        seen = [view for view in seen if view.picture.pixels.shape == seen[0].picture.pixels.shape]
        if not seen:
            return None
        pictures = [view.picture for view in seen]
        if len(seen) > 1 and is_camera_moving([p.pixels for p in pictures], [p.is_hidden for p in pictures]):
            best = min(range(len(pictures)), key=lambda number: int(pictures[number].is_hidden.sum()))
            others = sorted((n for n in range(len(pictures)) if n != best), key=lambda number: abs(number - best))
            plate, used = uncover(pictures[best], [pictures[number] for number in others[:_MOST_OTHERS]])
            return self._write(plate.pixels, plate.is_hidden, seen[best].row, used + 1)
        median, is_hidden = masked_median([p.pixels for p in pictures], [p.is_hidden for p in pictures])
        return self._write(median, is_hidden, seen[0].row, len(seen))

    def _write(
        self, visible: NDArray[np.uint8], is_hidden: NDArray[np.bool_], row: dict[str, Any], frame_count: int
    ) -> dict[str, Any]:
        plate = fill_hidden(visible, is_hidden)
        digest = sha256_of_parts(plate.tobytes(), [*plate.shape, self.settings.webp_quality])
        path = self.layout.background_layers(row["episode"]) / f"shot_{row['shot']:04d}_{digest[:16]}.webp"
        buffer = io.BytesIO()
        Image.fromarray(plate).save(buffer, "WEBP", quality=self.settings.webp_quality, method=2)
        write_bytes(path, buffer.getvalue())
        return {
            "episode": row["episode"],
            "shot": row["shot"],
            "plate": self.layout.relative(path),
            "frame_count": frame_count,
            "filled_share": float(is_hidden.mean()),
            "width_px": plate.shape[1],
            "height_px": plate.shape[0],
        }


def is_camera_moving(pictures: list[NDArray[np.uint8]], hidden: list[NDArray[np.bool_]]) -> bool:
    """Say whether the background of a shot moves, by what its median leaves unexplained.

    Args:
        pictures: uint8 [H, W, 3] each.
        hidden: bool [H, W] each; pixels that characters cover.
    """
    step = max(1, pictures[0].shape[1] // _MOTION_WIDTH_PX)
    small = [_shrink_by(picture, step) for picture in pictures]
    covered = [mask[: mask.shape[0] // step * step, : mask.shape[1] // step * step][::step, ::step] for mask in hidden]
    median, never_seen = masked_median(small, covered)
    moved = []
    for picture, mask in zip(small, covered, strict=True):
        is_visible = ~mask & ~never_seen
        distance = np.abs(picture.astype(np.int16) - median).max(axis=2)
        moved.append(float((distance[is_visible] >= MOTION_LEVELS).mean()) if is_visible.any() else 0.0)
    return float(np.median(moved)) > MOTION_SHARE


def _shrink_by(picture: NDArray[np.uint8], step: int) -> NDArray[np.uint8]:
    small = np.asarray(Image.fromarray(picture).reduce(step))
    return small[: picture.shape[0] // step, : picture.shape[1] // step]


def masked_median(
    pictures: list[NDArray[np.uint8]], hidden: list[NDArray[np.bool_]]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return the median of the visible pixels (the lower one of an even count), and where there are none.

    Args:
        pictures: N of uint8 [H, W, 3].
        hidden: N of bool [H, W].

    Returns:
        uint8 [H, W, 3], with the first picture's pixels where nothing is visible, and bool [H, W].
    """
    if len(pictures) == 1:
        return pictures[0], hidden[0]
    height, width = hidden[0].shape
    plate = np.empty((height, width, 3), np.uint8)
    is_hidden = np.logical_and.reduce(hidden)
    for top in range(0, height, _ROWS_AT_ONCE):  # a band at a time: a third copy of all frames would not fit
        rows = slice(top, min(top + _ROWS_AT_ONCE, height))
        masks = np.stack([mask[rows] for mask in hidden])
        # Hidden pixels sort to the end as 256 and above, and are then not counted.
        values = np.stack([picture[rows] for picture in pictures]).astype(np.uint16)
        values[masks] = 256
        values.sort(axis=0)
        visible = (~masks).sum(axis=0)
        middle = np.maximum(visible - 1, 0) // 2
        band = np.take_along_axis(values, middle[None, ..., None], axis=0)[0]
        plate[rows] = np.where(visible[..., None] > 0, band, pictures[0][rows]).astype(np.uint8)
    return plate, is_hidden
