"""A character's training set, from members to files: choose, hold out, render, write as one.

The sequence only: the choice is `choice`, pixels are `render`, files are `kohya`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from PIL import Image
from upath import UPath

from yokai_assets.datasets import kohya
from yokai_assets.datasets.choice import choose, digest, read_cutout
from yokai_assets.datasets.render import (
    Box,
    Ground,
    crop_box,
    draw_ground,
    overlap_share,
    render_original,
    render_plain,
)
from yokai_assets.datasets.selection import QualityLimits
from yokai_assets.frames.decoding import IMAGE_ERRORS
from yokai_assets.frames.reader import iter_frames
from yokai_assets.progress import Progress, silent
from yokai_assets.settings.model import DatasetSettings
from yokai_assets.storage.files import is_local, recover_folder, sha256_of_parts
from yokai_assets.storage.folders import replaced_folder
from yokai_assets.storage.layout import Layout
from yokai_assets.tables import DATASET

_STRANGER_SHARE = 0.02


@dataclass(frozen=True, slots=True)
class DatasetResult:
    """A training set on disk.

    Attributes:
        table: DATASET.
        dropped: Reason -> members left out for it; the reasons are explained in `selection.REASONS`.
        folder: Where the files are.
        is_too_small: There are fewer training images than `dataset.min_images`: the files are there to look at, but
            the character is not to be trained.
        notes: What went differently than asked for, in sentences.
    """

    table: pl.DataFrame
    dropped: dict[str, int]
    folder: UPath
    is_too_small: bool
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Example:
    """An image to be rendered; `ground` is None for the frame's own background."""

    row: dict[str, Any]
    split: str
    box: Box
    crop: Box
    ground: Ground | None


def build_dataset(
    character_id: str,
    members: pl.DataFrame,
    instances: pl.DataFrame,
    frames: pl.DataFrame,
    embeddings: pl.DataFrame,
    captions: pl.DataFrame,
    frames_source: UPath,
    layout: Layout,
    settings: DatasetSettings,
    seed: int,
    *,
    resolution_px: int,
    limits: QualityLimits | None = None,
    progress: Progress = silent,
) -> DatasetResult:
    """Choose, render and write a character's training set; the folder is replaced as a whole.

    An image keeps its frame's background unless its share of plain grounds falls on it, its frame cannot be read,
    or another instance stands in the crop: a stranger would be learnt as part of the character. What is on plain
    ground gets a tag that says so, that the ground be not learnt either.

    Args:
        character_id: Whom.
        members: MEMBERS of the character; others are left out.
        instances: INSTANCES with the character's rows; rows of other instances in the same frames, where given,
            are how strangers are noticed.
        frames: FRAMES of those instances.
        embeddings: EMBEDDINGS with the character's rows.
        captions: CAPTIONS of the character.
        frames_source: What `source` of the frames is relative to.
        layout: Where cut-outs lie and where the set goes.
        settings: How many, on what ground.
        seed: Of the split, the grounds and the draw from very many members. Equal input and seed give equal files.
        resolution_px: `training.resolution_px`: side of the square to whose area images are scaled down; never up.
        limits: Quality limits; unset: the defaults.
        progress: Told after each image.

    Raises:
        ValueError: Chosen images have no caption.
    """
    chosen = choose(
        character_id, members, instances, embeddings, layout, settings, seed,
        resolution_px=resolution_px, limits=limits or QualityLimits(),
    )  # fmt: skip
    caption_of = _captions(captions, chosen.rows, character_id)
    examples = _examples(chosen.rows, chosen.held_out, instances, frames, settings, seed)
    dropped = chosen.dropped.copy()
    folder = layout.training_data(character_id)
    rows: list[dict[str, Any]] = []
    frame_problems: list[str] = []
    with replaced_folder(folder, last=kohya.CONFIG_FILE) as temporary:
        for done, (example, cutout, frame, problem) in enumerate(
            _with_pixels(examples, frames, frames_source, layout), start=1
        ):
            frame_problems += [problem] if problem else []
            if cutout is None:  # it was there a moment ago, when it was chosen
                dropped["unreadable"] += 1
            else:
                rows.append(_write(temporary, example, cutout, frame, caption_of, resolution_px))
            progress(done, len(examples), "images")
        _write_records(temporary, rows, folder, resolution_px)
    table = DATASET.from_rows(_table_row(row, character_id, folder, layout) for row in rows).sort(
        "split", "instance_id"
    )
    train_count = table.filter(pl.col("split") == "train").height
    notes = (*chosen.notes, *_frames_note(frame_problems))
    return DatasetResult(
        table, {r: n for r, n in dropped.items() if n}, folder, train_count < settings.min_images, notes
    )


def load_training_image(layout: Layout, row: Mapping[str, Any]) -> tuple[Image.Image, Image.Image]:
    """Read an image of a training set.

    Args:
        layout: Where the data root is.
        row: A row of DATASET.

    Returns:
        RGB image and mask (L, 255 on the character), of one size.

    Raises:
        FileNotFoundError: A file is missing; the message names the remedy.
        OSError: A file is damaged.
    """
    pictures, character = [], row["character_id"]
    for column, mode in (("image", "RGB"), ("mask", "L")):
        path = layout.absolute(row[column])
        if not path.exists() and is_local(path):
            recover_folder(Path(str(layout.training_data(character))))
        if not path.exists():
            raise FileNotFoundError(f"{path}: missing. Materialize `training_dataset` of {character} again.")
        try:
            with path.open("rb") as file, Image.open(file) as picture:
                pictures.append(picture.convert(mode))
        except IMAGE_ERRORS as error:
            raise OSError(f"{path}: damaged ({error}). Materialize `training_dataset` of {character} again.") from error
    return pictures[0], pictures[1]


def _captions(captions: pl.DataFrame, rows: pl.DataFrame, character_id: str) -> dict[str, dict[str, Any]]:
    found = captions.filter(pl.col("instance_id").is_in(rows["instance_id"].implode()))
    missing = rows.height - found.height
    if missing:
        raise ValueError(
            f"{character_id}: {missing} of {rows.height} chosen images have no caption. "
            "Materialize `captions` of this character again, then `training_dataset`."
        )
    return {row["instance_id"]: row for row in found.iter_rows(named=True)}


def _examples(
    rows: pl.DataFrame,
    held_out: frozenset[str],
    instances: pl.DataFrame,
    frames: pl.DataFrame,
    settings: DatasetSettings,
    seed: int,
) -> list[_Example]:
    """Decide crop and ground of each image; in order of episodes and frames, so that videos are read once."""
    strangers = _boxes_by_frame(instances, rows)
    has_frame = set(frames["frame_id"])
    examples: list[_Example] = []
    for row in rows.sort("episode", "frame_index", "instance_id").iter_rows(named=True):
        box = _box(row)
        crop = crop_box(box, (row["frame_width_px"], row["frame_height_px"]), settings.margin_share)
        others = (other for number, other in strangers.get(row["frame_id"], ()) if number != row["instance_id"])
        is_forced = row["frame_id"] not in has_frame or any(overlap_share(crop, o) > _STRANGER_SHARE for o in others)
        split = kohya.HELD_OUT if row["instance_id"] in held_out else "train"
        ground = draw_ground(np.random.default_rng([seed, *digest(row["instance_id"])])) if is_forced else None
        examples.append(_Example(row, split, box, crop, ground))
    grounded = {
        example.row["instance_id"]: example
        for split in ("train", kohya.HELD_OUT)
        for example in _grounded([e for e in examples if e.split == split], settings.plain_background_share, seed)
    }
    return [grounded[e.row["instance_id"]] for e in examples]


def _grounded(examples: list[_Example], plain_share: float, seed: int) -> list[_Example]:
    """Put more images on plain ground until their share is reached; which ones, depends on seed and id alone."""
    missing = round(plain_share * len(examples)) - sum(e.ground is not None for e in examples)
    free = sorted(
        (e.row["instance_id"] for e in examples if e.ground is None), key=lambda i: (digest(f"{seed}/{i}"), i)
    )
    to_change = set(free[: max(0, missing)])
    return [
        replace(e, ground=draw_ground(np.random.default_rng([seed, *digest(e.row["instance_id"])])))
        if e.row["instance_id"] in to_change
        else e
        for e in examples
    ]


def _with_pixels(
    examples: list[_Example], frames: pl.DataFrame, frames_source: UPath, layout: Layout
) -> Iterator[tuple[_Example, Image.Image | None, Image.Image | None, str]]:
    """Yield example, cut-out, frame (where it is wanted and can be read) and what is amiss with the frame."""
    wanted = pl.DataFrame(
        {"frame_id": [e.row["frame_id"] for e in examples if e.ground is None]}, schema={"frame_id": pl.String}
    )
    sources = wanted.join(frames.select("frame_id", "source", "content_sha256"), on="frame_id", maintain_order="left")
    pictures = iter_frames(sources, frames_source)
    for example in examples:
        frame, problem = None, ""
        if example.ground is None:
            _, picture = next(pictures)
            frame = picture if isinstance(picture, Image.Image) else None
            problem = "" if frame else str(picture)
            expected = (example.row["frame_width_px"], example.row["frame_height_px"])
            if frame and frame.size != expected:
                episode = example.row["episode"]
                remedy = f"Materialize `frames` and `character_layers` of {episode} again."
                problem = f"{example.row['frame_id']}: is {frame.size}, was {expected} px. {remedy}"
                frame = None
        yield example, read_cutout(layout, example.row), frame, problem


def _frames_note(problems: list[str]) -> tuple[str, ...]:
    if not problems:
        return ()
    return (f"{len(problems)} image(s) are shown on plain ground for want of their frame, e.g. {problems[0]}",)


def _write(
    folder: Path,
    example: _Example,
    cutout: Image.Image,
    frame: Image.Image | None,
    caption_of: Mapping[str, dict[str, Any]],
    resolution_px: int,
) -> dict[str, Any]:
    instance_id = example.row["instance_id"]
    captioned = caption_of[instance_id]
    has_ground = frame is None
    if frame is not None:
        image, mask = render_original(frame, cutout, example.box, example.crop, resolution_px)
        caption = captioned["caption"]
    else:
        ground = example.ground or draw_ground(np.random.default_rng(digest(instance_id)))
        image, mask = render_plain(cutout, example.box, example.crop, ground, resolution_px)
        has_ground = mask.getextrema() != (255, 255)  # an imported picture may be opaque
        says_ground = not has_ground or any("background" in tag for tag in captioned["tags"])
        caption = captioned["caption"] if says_ground else f"{captioned['caption']}, {ground.tag}"
    stem = kohya.file_stem(instance_id)
    kohya.write_example(folder, example.split, stem, image, mask, caption)
    return {
        "split": example.split,
        "stem": stem,
        "caption": caption,
        "instance_id": instance_id,
        "episode": example.row["episode"],
        "shot": example.row["shot"],
        "background": "plain" if has_ground else "original",
        "width_px": image.width,
        "height_px": image.height,
        "cutout_sha256": example.row["cutout_sha256"],
        "image_sha256": sha256_of_parts(image.size, image.tobytes(), mask.tobytes()),
    }


def _write_records(temporary: Path, rows: list[dict[str, Any]], folder: UPath, resolution_px: int) -> None:
    kohya.write_metadata(temporary, rows)
    place = str(Path(str(folder)).absolute()) if is_local(folder) else str(folder)
    config = kohya.dataset_toml(place, f"{place}/{kohya.MASKS}", resolution_px)
    (temporary / kohya.CONFIG_FILE).write_text(config, "utf-8")


def _table_row(row: dict[str, Any], character_id: str, folder: UPath, layout: Layout) -> dict[str, Any]:
    split, stem = row["split"], row["stem"]
    return {
        **{key: value for key, value in row.items() if key not in ("stem", "cutout_sha256")},
        "character_id": character_id,
        "image": layout.relative(folder / kohya.image_path(split, stem)),
        "mask": layout.relative(folder / kohya.mask_path(split, stem)),
    }


def _boxes_by_frame(instances: pl.DataFrame, rows: pl.DataFrame) -> dict[str, list[tuple[str, Box]]]:
    near = instances.filter(pl.col("frame_id").is_in(rows["frame_id"].unique().implode()))
    boxes: dict[str, list[tuple[str, Box]]] = {}
    for row in near.iter_rows(named=True):
        boxes.setdefault(row["frame_id"], []).append((row["instance_id"], _box(row)))
    return boxes


def _box(row: Mapping[str, Any]) -> Box:
    return row["x0"], row["y0"], row["x1"], row["y1"]
