"""One round: a model draws the grid; its pictures are checked, saved and embedded.

A model is the base model, a checkpoint, or a checkpoint at another weight. What the vectors say is `judging`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from yokai_assets.devices import free_device_memory, is_out_of_memory
from yokai_assets.evaluation.drawing import (
    Origin,
    PictureModel,
    draw_grid,
    picture_defect,
    sampler_name,
    save_picture,
    to_image,
)
from yokai_assets.evaluation.grid import EvaluationError, GridCell
from yokai_assets.evaluation.judging import DrawnGrid
from yokai_assets.evaluation.subjects import CharacterMatte, ImageTextEncoder, embed_drawn
from yokai_assets.progress import Progress
from yokai_assets.settings import Settings
from yokai_assets.storage.folders import local_copy
from yokai_assets.storage.layout import Layout
from yokai_assets.training.record import Checkpoint
from yokai_assets.training.safetensors_header import LoraFileError, tensors_sha256

SHOWN_COLUMNS = 8
FULL_WEIGHT = 1.0
"""The weight that checkpoints are judged at."""


@dataclass(slots=True)
class Work:
    """What the rounds of one evaluation share."""

    character_id: str
    trigger: str
    layout: Layout
    settings: Settings
    model: ImageTextEncoder
    matte: CharacterMatte | None
    base: PictureModel
    cells: list[GridCell]
    side_px: int
    folder: Path
    progress: Progress
    total_count: int
    done_count: int = 0
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Round:
    """What one model has drawn: vectors and defects, the files of saved pictures, a few pictures to be shown."""

    grid: DrawnGrid
    files: list[str]
    shown: list[Image.Image]


class UnusableCheckpointError(EvaluationError):
    """One checkpoint cannot be loaded; the others can still be judged."""


def draw_round(work: Work, checkpoint: Checkpoint | None, tensors_sha256: str | None = None) -> Round:
    """Draw the whole grid with a checkpoint (None: the base model) and save its pictures.

    Args:
        work: What the rounds share.
        checkpoint: The checkpoint.
        tensors_sha256: Hash of its weights, for the pictures' metadata.

    Raises:
        UnusableCheckpointError: The checkpoint does not load.
    """
    step = checkpoint.step if checkpoint else 0
    pipeline = _pipeline(work, checkpoint, FULL_WEIGHT)
    origin = Origin(
        base=work.base.public_name,
        base_fingerprint=work.base.fingerprint,
        lora=checkpoint.path.name if checkpoint else None,
        lora_sha256=tensors_sha256,
        step=step,
        weight=FULL_WEIGHT,
        sampler=sampler_name(pipeline),
    )
    images: list[Image.Image] = []
    defects: list[str | None] = []
    files: list[str] = []
    for cell, pixels in _drawn(work, pipeline, work.cells, f"step {step}"):
        image = to_image(pixels)
        name = f"step{step:06d}_prompt{cell.prompt_index}_seed{cell.seed}.png"
        save_picture(image, work.folder / name, cell, work.settings.evaluation, origin)
        images.append(image)
        defects.append(picture_defect(pixels))
        files.append(name)
    del pipeline
    free_device_memory()
    return Round(_embedded(work, work.cells, images, defects), files, [images[i] for i in shown_cells(work.cells)])


def draw_at_weight(work: Work, checkpoint: Checkpoint, cells: Sequence[GridCell], weight: float) -> Round:
    """Draw cells with a checkpoint at a weight; nothing is saved."""
    pipeline = _pipeline(work, checkpoint, weight)
    images: list[Image.Image] = []
    defects: list[str | None] = []
    for _, pixels in _drawn(work, pipeline, cells, f"weight {weight:g}"):
        images.append(to_image(pixels))
        defects.append(picture_defect(pixels))
    del pipeline
    free_device_memory()
    return Round(_embedded(work, cells, images, defects), [], [images[index] for index in shown_cells(cells)])


def weights_hash(checkpoint: Checkpoint) -> str:
    """Return the hash of a checkpoint's weights.

    Raises:
        UnusableCheckpointError: The file is damaged.
    """
    with local_copy(checkpoint.path) as path:
        try:
            return tensors_sha256(path)
        except LoraFileError as error:
            raise UnusableCheckpointError(f"Checkpoint left out: {error}") from error


def shown_cells(cells: Sequence[GridCell]) -> list[int]:
    """Return cells for comparisons: the first seeds of every prompt, as many as fit."""
    prompts = sorted({cell.prompt_index for cell in cells})[:SHOWN_COLUMNS]
    each = max(1, SHOWN_COLUMNS // len(prompts))
    return [
        index
        for prompt in prompts
        for index in [i for i, cell in enumerate(cells) if cell.prompt_index == prompt][:each]
    ]


def _pipeline(work: Work, checkpoint: Checkpoint | None, weight: float) -> Any:
    """Return a pipeline that draws with the base model, or with a checkpoint on it.

    Raises:
        UnusableCheckpointError: The checkpoint does not load.
    """
    if checkpoint is None:
        return work.base.build_pipeline(None)
    with local_copy(checkpoint.path) as path:
        try:
            return work.base.build_pipeline(path, weight)
        except (RuntimeError, ValueError, OSError) as error:
            if is_out_of_memory(error):
                raise  # that is no fault of the checkpoint
            raise UnusableCheckpointError(f"Checkpoint left out: {error}") from error


def _drawn(work: Work, pipeline: Any, cells: Sequence[GridCell], what: str) -> Iterator[tuple[GridCell, np.ndarray]]:
    def report(done: int, total: int, note: str = "") -> None:  # noqa: ARG001
        work.progress(work.done_count + done, work.total_count, f"{what}, {note}")

    yield from draw_grid(pipeline, cells, work.settings.evaluation, work.side_px, report)
    work.done_count += len(cells)


def _embedded(
    work: Work, cells: Sequence[GridCell], images: list[Image.Image], defects: Sequence[str | None]
) -> DrawnGrid:
    segmentation, grey = work.settings.segmentation, work.settings.embedding.neutral_grey
    threshold, batch_size = segmentation.presence_threshold, segmentation.batch_size
    subject = embed_drawn(images, work.model, work.matte, threshold, grey, batch_size)
    whole = embed_drawn(images, work.model, None, threshold, grey, batch_size) if work.matte else subject
    return DrawnGrid(cells, subject, whole, defects)
