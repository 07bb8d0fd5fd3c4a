"""The evaluation of one character: draw, measure, choose, and leave pictures and record behind.

The sequence only; each step is a module of its own. Everything lands in `lora_tests/` as one: a reader sees
the old evaluation or the new one.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from PIL import Image
from upath import UPath

from yokai_assets.devices import free_device_memory
from yokai_assets.evaluation.choice import choose_checkpoint
from yokai_assets.evaluation.drawing import (
    PictureModel,
    draw_grid,
    picture_defect,
    save_picture,
    to_image,
)
from yokai_assets.evaluation.grid import (
    EvaluationError,
    GridCell,
    find_checkpoints,
    prompt_grid,
    select_checkpoints,
)
from yokai_assets.evaluation.judging import DrawnGrid, Yardsticks, judge, judgement_of, measure_pictures
from yokai_assets.evaluation.record import (
    RECORD_FILE,
    EvaluationRecord,
    PictureRecord,
)
from yokai_assets.evaluation.reporting import (
    COMPARISON_FILE,
    SHOWN_COLUMNS,
    Judged,
    Work,
    build_record,
    save_comparison,
    shown_cells,
)
from yokai_assets.evaluation.subjects import (
    CharacterMatte,
    ImageTextEncoder,
    RealImages,
    embed_drawn,
    exemplar_vectors,
    read_real_images,
)
from yokai_assets.progress import Progress, silent
from yokai_assets.settings import Settings
from yokai_assets.storage.files import write_text
from yokai_assets.storage.folders import local_copy, replaced_folder
from yokai_assets.storage.layout import Layout
from yokai_assets.training.record import Checkpoint
from yokai_assets.training.safetensors_header import LoraFileError, tensors_sha256

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """What an evaluation found.

    Attributes:
        table: Rows of `EVALUATIONS`.
        record: Everything measured, as in `evaluation.json`.
        folder: Where pictures and record lie.
        comparison: Base, checkpoints and real images side by side.
    """

    table: pl.DataFrame
    record: EvaluationRecord
    folder: UPath
    comparison: UPath

    @property
    def chosen_step(self) -> int:
        """Step of the checkpoint to publish."""
        return self.record.chosen_step

    @property
    def reason(self) -> str:
        """Why this checkpoint, in words."""
        return self.record.reason


def evaluate_character(
    character_id: str,
    dataset: pl.DataFrame,
    characters: pl.DataFrame,
    embeddings: pl.DataFrame,
    members: pl.DataFrame,
    trigger: str,
    layout: Layout,
    settings: Settings,
    device: str,
    *,
    base: PictureModel | None = None,
    model: ImageTextEncoder,
    matte: CharacterMatte | None = None,
    progress: Progress = silent,
) -> EvaluationResult:
    """Draw pictures with the base model and every selected checkpoint, judge them, choose a checkpoint.

    Args:
        character_id: The character.
        dataset: `DATASET` rows of the character; its held-out images are what pictures are compared with.
        characters: `CHARACTERS` of the registry; pictures must be recognised among the active ones.
        embeddings: `EMBEDDINGS` that hold the exemplars of every character.
        members: `MEMBERS`, for characters whose exemplars are not embedded.
        trigger: The character's trigger word.
        layout: Where checkpoints and images lie and results go.
        settings: Sections `evaluation`, `embedding`, `segmentation`, `training`, and the seed.
        device: Resolved torch device, used to open `base` where it is not given.
        base: The base model, opened; unset: the one of the settings.
        model: Image and text encoder.
        matte: Cuts characters out of drawn pictures; unset: whole pictures are compared, on both sides.
        progress: Counts drawn pictures.

    Returns:
        The result; pictures and `evaluation.json` are in `layout.lora_tests(character_id)`.

    Raises:
        EvaluationError: No checkpoint, no readable dataset image, or no usable exemplar of the character.
    """
    started = time.perf_counter()
    checkpoints = select_checkpoints(find_checkpoints(character_id, layout), settings.evaluation.max_checkpoints)
    if not checkpoints:
        raise EvaluationError(
            f"{layout.lora(character_id)}: no finished training with checkpoints. "
            "Materialize the character's lora_model first."
        )
    cells = prompt_grid(settings.evaluation, trigger, settings.seed)
    held_out, training = _read_dataset(character_id, dataset, layout, settings, model, is_cut_out=matte is not None)
    yardsticks = _yardsticks(character_id, held_out, training, characters, embeddings, members, model)
    if base is None:
        from yokai_assets.training.base_model import open_base_model

        base = open_base_model(
            settings.training.base_model,
            device,
            precision=settings.training.mixed_precision,
            cache=layout.cache,
        )
    target = layout.lora_tests(character_id)
    with replaced_folder(target, last=RECORD_FILE) as folder:
        work = Work(
            character_id=character_id,
            trigger=trigger,
            layout=layout,
            settings=settings,
            model=model,
            matte=matte,
            base=base,
            cells=cells,
            side_px=max(8, settings.training.resolution_px // 8 * 8),
            folder=folder,
            progress=progress,
            total_count=len(cells) * (1 + len(checkpoints)),
        )
        judged = _judge_all(work, checkpoints, yardsticks, training)
        save_comparison(work, judged, held_out if held_out.shown else training)
        record = build_record(work, judged, held_out, training, yardsticks, time.perf_counter() - started)
        write_text(folder / RECORD_FILE, record.model_dump_json(indent=2) + "\n")
    return EvaluationResult(record.to_table(), record, target, target / COMPARISON_FILE)


def _read_dataset(
    character_id: str,
    dataset: pl.DataFrame,
    layout: Layout,
    settings: Settings,
    model: ImageTextEncoder,
    *,
    is_cut_out: bool,
) -> tuple[RealImages, RealImages]:
    own = dataset.filter(pl.col("character_id") == character_id)
    splits: list[RealImages] = []
    for split in ("held_out", "train"):
        rows = own.filter(pl.col("split") == split)
        grey = settings.embedding.neutral_grey
        splits.append(read_real_images(rows, layout, model, grey, is_cut_out=is_cut_out, shown_count=SHOWN_COLUMNS))
    held_out, training = splits
    for problem in [*held_out.problems, *training.problems]:
        _LOG.warning("%s: dataset image left out of the evaluation: %s", character_id, problem)
    if len(training.instance_ids) < (1 if held_out.instance_ids else 2):
        raise EvaluationError(
            f"{layout.training_data(character_id)}: only {len(training.instance_ids)} readable training "
            f"and {len(held_out.instance_ids)} held-out image(s) of {character_id}; too few to compare with. "
            "Materialize the character's training_dataset again."
        )
    return held_out, training


def _yardsticks(
    character_id: str,
    held_out: RealImages,
    training: RealImages,
    characters: pl.DataFrame,
    embeddings: pl.DataFrame,
    members: pl.DataFrame,
    model: ImageTextEncoder,
) -> Yardsticks:
    exemplars = exemplar_vectors(characters, embeddings, members, model.fingerprint, also=character_id)
    if character_id not in exemplars:
        raise EvaluationError(
            f"{character_id}: no exemplar has a vector of the embedding model in use "
            f"({model.fingerprint[:12]}). "
            "Materialize embeddings, clusters and character_registry again with this model."
        )
    return Yardsticks.of(character_id, held_out.vectors, training.vectors, exemplars)


def _judge_all(work: Work, checkpoints: Sequence[Checkpoint], yardsticks: Yardsticks, training: RealImages) -> Judged:
    subjects = sorted({cell.subject for cell in work.cells if cell.subject})
    texts = dict(zip(subjects, work.model.embed_texts(subjects), strict=True)) if subjects else {}
    samples, seed = work.settings.evaluation.bootstrap_samples, work.settings.seed
    base, files = _draw(work, None)
    rows = [judge(0, None, base, base, yardsticks, texts, samples, seed)]
    pictures = _picture_records(0, base, files, yardsticks, training)
    for checkpoint in checkpoints:
        try:
            digest = _weights_hash(checkpoint)
            grid, files = _draw(work, checkpoint)
        except _UnusableCheckpointError as error:
            _LOG.warning("%s", error)
            work.problems.append(str(error))
            continue
        name = work.layout.relative(checkpoint.path)
        row = judge(checkpoint.step, name, grid, base, yardsticks, texts, samples, seed)
        rows.append(row.model_copy(update={"tensors_sha256": digest}))
        pictures += _picture_records(checkpoint.step, grid, files, yardsticks, training)
    if len(rows) == 1:
        raise EvaluationError(
            f"{work.character_id}: no checkpoint can be used. {' '.join(work.problems)} Train the LoRA again."
        )
    best, scores, reason = choose_checkpoint([judgement_of(row, rows[0], yardsticks) for row in rows[1:]])
    found = {score.step: score for score in scores}
    scored = [
        row.model_copy(update={"score": found[row.step].total, "score_parts": found[row.step].parts})
        for row in rows[1:]
    ]
    return Judged([rows[0], *scored], pictures, best.step, reason)


def _draw(work: Work, checkpoint: Checkpoint | None) -> tuple[DrawnGrid, list[str]]:
    """Draw a checkpoint's grid (None: the base model's), save its pictures, embed them."""
    step = checkpoint.step if checkpoint else 0
    images: list[Image.Image] = []
    defects: list[str | None] = []
    files: list[str] = []
    source = {
        "checkpoint": checkpoint.path.name if checkpoint else "none",
        "base": work.settings.training.base_model,
    }
    for cell, pixels in _pixels(work, checkpoint, step):
        image = to_image(pixels)
        name = f"step{step:06d}_prompt{cell.prompt_index}_seed{cell.seed}.png"
        save_picture(image, work.folder / name, cell, work.settings.evaluation, source)
        images.append(image)
        defects.append(picture_defect(pixels))
        files.append(name)
    free_device_memory()
    work.done_count += len(work.cells)
    work.shown[step] = [images[index] for index in shown_cells(work.cells)]
    segmentation, grey = work.settings.segmentation, work.settings.embedding.neutral_grey
    threshold, batch_size = segmentation.presence_threshold, segmentation.batch_size
    subject = embed_drawn(images, work.model, work.matte, threshold, grey, batch_size)
    whole = embed_drawn(images, work.model, None, threshold, grey, batch_size) if work.matte else subject
    return DrawnGrid(work.cells, subject, whole, defects), files


def _pixels(work: Work, checkpoint: Checkpoint | None, step: int) -> Iterator[tuple[GridCell, np.ndarray]]:
    def report(done: int, total: int, note: str = "") -> None:  # noqa: ARG001
        work.progress(work.done_count + done, work.total_count, f"step {step}, {note}")

    if checkpoint is None:
        pipeline = work.base.build_pipeline(None)
    else:
        with local_copy(checkpoint.path) as path:
            try:
                pipeline = work.base.build_pipeline(path)
            except (RuntimeError, ValueError, OSError) as error:
                raise _UnusableCheckpointError(f"Checkpoint left out: {error}") from error
    yield from draw_grid(pipeline, work.cells, work.settings.evaluation, work.side_px, report)


def _weights_hash(checkpoint: Checkpoint) -> str:
    with local_copy(checkpoint.path) as path:
        try:
            return tensors_sha256(path)
        except LoraFileError as error:
            raise _UnusableCheckpointError(f"Checkpoint left out: {error}") from error


class _UnusableCheckpointError(EvaluationError):
    """One checkpoint cannot be loaded; the others can still be judged."""


def _picture_records(
    step: int, grid: DrawnGrid, files: Sequence[str], yardsticks: Yardsticks, training: RealImages
) -> list[PictureRecord]:
    values = measure_pictures(grid, yardsticks)
    return [
        PictureRecord(
            step=step,
            prompt_index=cell.prompt_index,
            prompt=cell.prompt,
            seed=cell.seed,
            file=files[index],
            defect=grid.defects[index],
            resemblance=float(values.resemblance[index]) if cell.has_trigger else None,
            recognised_as=values.recognised_as[index] if cell.has_trigger else None,
            nearest_training_image=training.instance_ids[int(values.nearest_training[index])],
            nearest_training_cosine=float(values.nearest_training_cosine[index]),
        )
        for index, cell in enumerate(grid.cells)
    ]
