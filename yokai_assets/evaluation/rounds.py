"""One round: a model draws the grid; its pictures are checked, saved and embedded.

A model is the base model, a checkpoint, or a checkpoint at another weight. What the vectors say is `judging`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from yokai_assets.devices import free_device_memory
from yokai_assets.evaluation.drawing import PictureModel, draw_grid, picture_defect, save_picture, to_image
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


def draw_round(work: Work, checkpoint: Checkpoint | None) -> Round:
    """Draw the whole grid with a checkpoint (None: the base model) and save its pictures.

    Raises:
        UnusableCheckpointError: The checkpoint does not load.
    """
    step = checkpoint.step if checkpoint else 0
    source = {"checkpoint": checkpoint.path.name if checkpoint else "none", "base": work.settings.training.base_model}
    images: list[Image.Image] = []
    defects: list[str | None] = []
    files: list[str] = []
    for cell, pixels in _drawn(work, checkpoint, work.cells, 1.0, f"step {step}"):
        image = to_image(pixels)
        name = f"step{step:06d}_prompt{cell.prompt_index}_seed{cell.seed}.png"
        save_picture(image, work.folder / name, cell, work.settings.evaluation, source)
        images.append(image)
        defects.append(picture_defect(pixels))
        files.append(name)
    return Round(_embedded(work, work.cells, images, defects), files, [images[i] for i in shown_cells(work.cells)])


def draw_at_weight(work: Work, checkpoint: Checkpoint, cells: Sequence[GridCell], weight: float) -> Round:
    """Draw cells with a checkpoint at a weight; nothing is saved."""
    drawn = list(_drawn(work, checkpoint, cells, weight, f"weight {weight:g}"))
    images = [to_image(pixels) for _, pixels in drawn]
    grid = _embedded(work, cells, images, [picture_defect(pixels) for _, pixels in drawn])
    return Round(grid, [], [images[index] for index in shown_cells(cells)])


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


def _drawn(
    work: Work, checkpoint: Checkpoint | None, cells: Sequence[GridCell], weight: float, note: str
) -> Iterator[tuple[GridCell, np.ndarray]]:
    what = note

    def report(done: int, total: int, note: str = "") -> None:  # noqa: ARG001
        work.progress(work.done_count + done, work.total_count, f"{what}, {note}")

    if checkpoint is None:
        pipeline = work.base.build_pipeline(None)
    else:
        with local_copy(checkpoint.path) as path:
            try:
                pipeline = work.base.build_pipeline(path, weight)
            except (RuntimeError, ValueError, OSError) as error:
                raise UnusableCheckpointError(f"Checkpoint left out: {error}") from error
    yield from draw_grid(pipeline, cells, work.settings.evaluation, work.side_px, report)
    work.done_count += len(cells)
    del pipeline
    free_device_memory()


def _embedded(
    work: Work, cells: Sequence[GridCell], images: list[Image.Image], defects: Sequence[str | None]
) -> DrawnGrid:
    segmentation, grey = work.settings.segmentation, work.settings.embedding.neutral_grey
    threshold, batch_size = segmentation.presence_threshold, segmentation.batch_size
    subject = embed_drawn(images, work.model, work.matte, threshold, grey, batch_size)
    whole = embed_drawn(images, work.model, None, threshold, grey, batch_size) if work.matte else subject
    return DrawnGrid(cells, subject, whole, defects)
