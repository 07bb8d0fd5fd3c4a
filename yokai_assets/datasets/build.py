"""A character's training set, from members to files: choose, hold out, render, write as one.

The sequence only: the choice is `choice`, what is behind the character is `grounds`, images are `writing`, files are
`kohya`, what people change by hand is `edits`.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl
from PIL import Image
from upath import UPath

from yokai_assets.datasets import kohya
from yokai_assets.datasets.carrying import carry_over
from yokai_assets.datasets.choice import Choice, Knowledge, choose
from yokai_assets.datasets.edits import HandEdits, collect_edits, fingerprint_of, own_config
from yokai_assets.datasets.grounds import ORIGINAL, Wanted, assign_grounds
from yokai_assets.datasets.looks import read_cutout
from yokai_assets.datasets.manifest import Folder, write_manifest
from yokai_assets.datasets.regularisation import regularisation_parts
from yokai_assets.datasets.render import Box, crop_box, overlap_share
from yokai_assets.datasets.selection import QualityLimits
from yokai_assets.datasets.writing import Example, ExampleWriter
from yokai_assets.frames.decoding import IMAGE_ERRORS, open_image
from yokai_assets.frames.reader import iter_frames
from yokai_assets.progress import Progress, silent
from yokai_assets.segmentation.restoring import Restore, nothing_to_restore
from yokai_assets.settings.model import DatasetSettings
from yokai_assets.storage.files import is_local, recover_folder
from yokai_assets.storage.folders import replaced_folder
from yokai_assets.storage.layout import Layout
from yokai_assets.tables import BACKGROUNDS, DATASET

_STRANGER_SHARE = 0.02


@dataclass(frozen=True, slots=True)
class DatasetResult:
    """A training set on disk.

    Attributes:
        table: DATASET.
        dropped: instance_id -> why it was left out; the reasons are explained in `selection.REASONS`.
        folder: Where the files are.
        is_too_small: There are fewer training images than `dataset.min_images`: the files are there to look at, but
            the character is not to be trained.
        notes: What went differently than asked for, in sentences.
        edits: What people changed by hand, and was done again.
        own_file_count: Files of their own that were carried over.
    """

    table: pl.DataFrame
    dropped: dict[str, str]
    folder: UPath
    is_too_small: bool
    notes: tuple[str, ...]
    edits: HandEdits = field(default_factory=HandEdits)
    own_file_count: int = 0

    @property
    def edits_fingerprint(self) -> str:
        """What `edits.edits_fingerprint` says as long as nobody edits anything more."""
        return fingerprint_of(self.edits)

    @property
    def dropped_counts(self) -> dict[str, int]:
        """Reason -> how many images were left out for it, most first."""
        return dict(Counter(self.dropped.values()).most_common())


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
    knowledge: Knowledge | None = None,
    plates: pl.DataFrame | None = None,
    progress: Progress = silent,
    restore: Restore = nothing_to_restore,
) -> DatasetResult:
    """Choose, render and write a character's training set; the folder is replaced as a whole.

    What people changed in the folder by hand is done again in the new one, and files of theirs stay. An image keeps
    its frame's background unless the mixture of grounds says otherwise, its frame cannot be read, or another instance
    stands in the crop: a stranger would be learnt as part of the character. What is on plain ground gets a tag that
    says so, that the ground be not learnt either.

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
        knowledge: What else is known of the character; what people removed is added to it.
        plates: BACKGROUNDS that may be shown behind the character; unset: none.
        progress: Told after each image.
        restore: Called with the cut-outs and plates that will be read.

    Raises:
        ValueError: Chosen images have no caption.
        EditsError: What people changed before cannot be read.
    """
    folder = layout.training_data(character_id)
    if is_local(folder):
        recover_folder(Path(str(folder)))
    edits = collect_edits(layout, character_id).edits
    knowledge = knowledge or Knowledge()
    chosen = choose(
        character_id, members, instances, embeddings, layout, settings, seed, resolution_px=resolution_px,
        limits=limits or QualityLimits(),
        knowledge=replace(knowledge, removed={*knowledge.removed, *edits.removed}), restore=restore,
    )  # fmt: skip
    caption_of = _captions(captions, chosen.rows, character_id)
    examples = _examples(
        chosen, instances, frames, plates if plates is not None else BACKGROUNDS.empty(), settings, seed
    )
    restore(example.ground.plate for example in examples if example.ground.plate)
    dropped = chosen.dropped.copy()
    rows: list[dict[str, Any]] = []
    problems: list[str] = []
    own_file_count = 0

    def keep_what_is_theirs(place: UPath | Path, target: Path) -> None:
        nonlocal own_file_count
        kept = collect_edits(layout, character_id, path=UPath(place)).files
        own_file_count += carry_over(Folder(UPath(place)), target, kept)

    with replaced_folder(
        folder, last=kohya.CONFIG_FILE, before_removal=lambda old: keep_what_is_theirs(old, Path(str(folder)))
    ) as temporary:
        writer = ExampleWriter(temporary, layout, character_id, edits, resolution_px, seed)
        for done, (example, cutout, frame, problem) in enumerate(
            _with_pixels(examples, frames, frames_source, layout), start=1
        ):
            problems += [problem] if problem else []
            if cutout is None:  # it was there a moment ago, when it was chosen
                dropped[example.row["instance_id"]] = "unreadable"
            else:
                rows.append(writer.write(example, cutout, frame, caption_of[example.row["instance_id"]]))
            progress(done, len(examples), "images")
        train_count = sum(row["split"] == "train" for row in rows)
        repeats = kohya.repeats_for(train_count, settings.epoch_images)
        regularisation = regularisation_parts(layout, character_id)
        config = own_config(layout, character_id, edits)
        _write_records(temporary, rows, dropped, folder, resolution_px, repeats, regularisation, config)
        # Whoever edited meanwhile does not lose it: the next set has it. And again when the folders are swapped.
        keep_what_is_theirs(folder, temporary)
    table = DATASET.from_rows(_table_row(row, character_id, folder, layout) for row in rows)
    notes = (*chosen.notes, *_frames_note(problems))
    return DatasetResult(
        table.sort("split", "instance_id"),
        dropped,
        folder,
        train_count < settings.min_images,
        notes,
        edits,
        own_file_count,
    )


def changes_between(before: pl.DataFrame, now: pl.DataFrame) -> dict[str, int]:
    """Return what is different in a set (DATASET) from the one before it, in numbers of images."""
    both = before.join(now, on="instance_id", suffix="_now")
    return {
        "added": now.height - both.height,
        "removed": before.height - both.height,
        "other_pixels": both.filter(pl.col("image_sha256") != pl.col("image_sha256_now")).height,
        "other_caption": both.filter(pl.col("caption") != pl.col("caption_now")).height,
        "other_split": both.filter(pl.col("split") != pl.col("split_now")).height,
    }


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
            with path.open("rb") as file, open_image(file) as picture:
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
    chosen: Choice, instances: pl.DataFrame, frames: pl.DataFrame, plates: pl.DataFrame, settings: DatasetSettings,
    seed: int,
) -> list[Example]:  # fmt: skip
    """Decide crop and ground of each image; in order of episodes and frames, so that videos are read once."""
    rows = chosen.rows.sort("episode", "frame_index", "instance_id").to_dicts()
    strangers = _boxes_by_frame(instances, chosen.rows)
    has_frame = set(frames["frame_id"])
    crops: dict[str, Box] = {}
    wanted: dict[str, list[Wanted]] = {"train": [], kohya.HELD_OUT: []}
    for row in rows:
        name = row["instance_id"]
        crops[name] = crop_box(_box(row), (row["frame_width_px"], row["frame_height_px"]), settings.margin_share)
        others = (other for number, other in strangers.get(row["frame_id"], ()) if number != name)
        is_shared = any(overlap_share(crops[name], other) > _STRANGER_SHARE for other in others)
        split = kohya.HELD_OUT if name in chosen.held_out else "train"
        has_own = row["frame_id"] in has_frame and not is_shared
        wanted[split].append(Wanted(name, row["episode"], row["shot"], has_own))
    grounds = {
        split: assign_grounds(images, settings.grounds, plates, seed) for split, images in wanted.items() if images
    }
    return [
        Example(row, split, _box(row), crops[row["instance_id"]], grounds[split][row["instance_id"]])
        for row in rows
        for split in ("train", kohya.HELD_OUT)
        if row["instance_id"] in grounds.get(split, {})
    ]


def _with_pixels(
    examples: list[Example], frames: pl.DataFrame, frames_source: UPath, layout: Layout
) -> Iterator[tuple[Example, Image.Image | None, Image.Image | None, str]]:
    """Yield example, cut-out, frame (where it is wanted and can be read) and what is amiss with the frame."""
    wanted = pl.DataFrame(
        {"frame_id": [e.row["frame_id"] for e in examples if e.ground == ORIGINAL]}, schema={"frame_id": pl.String}
    )
    sources = wanted.join(frames.select("frame_id", "source", "content_sha256"), on="frame_id", maintain_order="left")
    pictures = iter_frames(sources, frames_source)
    for example in examples:
        frame, problem = None, ""
        if example.ground == ORIGINAL:
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


def _write_records(
    temporary: Path,
    rows: list[dict[str, Any]],
    dropped: Mapping[str, str],
    folder: UPath,
    resolution_px: int,
    repeats: int,
    regularisation: list[str],
    own_config: bytes | None,
) -> None:
    kohya.write_metadata(temporary, rows)
    kohya.write_rejected(temporary, dropped)
    place = str(Path(str(folder)).absolute()) if is_local(folder) else str(folder)
    config = kohya.dataset_toml(place, f"{place}/{kohya.MASKS}", resolution_px, repeats, regularisation)
    (temporary / kohya.CONFIG_FILE).write_bytes(config.encode() if own_config is None else own_config)
    write_manifest(temporary, {kohya.image_path(row["split"], row["stem"]): row["cutout_sha256"] for row in rows})


def _table_row(row: dict[str, Any], character_id: str, folder: UPath, layout: Layout) -> dict[str, Any]:
    split, stem = row["split"], row["stem"]
    return {
        **{key: value for key, value in row.items() if key not in ("stem", "cutout")},
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
