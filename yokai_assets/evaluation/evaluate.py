"""The evaluation of one character: draw, measure, choose, and leave pictures and record behind.

The sequence only; each step is a module of its own. Everything lands in `lora_tests/` as one: a reader sees
the old evaluation or the new one.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl
from upath import UPath

from yokai_assets.evaluation.anchors import anchor_table, load_vectors, save_vectors, vectors_of
from yokai_assets.evaluation.choice import choose_checkpoint
from yokai_assets.evaluation.drawing import PictureModel
from yokai_assets.evaluation.grid import (
    EvaluationError,
    find_checkpoints,
    prompt_grid,
    select_checkpoints,
    trained_images,
)
from yokai_assets.evaluation.judging import Judge, Yardsticks, measure_pictures
from yokai_assets.evaluation.record import RECORD_FILE, EvaluationRecord, PictureRecord, comparable_vectors
from yokai_assets.evaluation.reporting import (
    CLOSEST_FILE,
    COMPARISON_FILE,
    WEIGHTS_FILE,
    Judged,
    build_record,
    save_sheets,
)
from yokai_assets.evaluation.rounds import (
    FULL_WEIGHT,
    SHOWN_COLUMNS,
    Round,
    UnusableCheckpointError,
    Work,
    draw_at_weight,
    draw_round,
    weights_hash,
)
from yokai_assets.evaluation.subjects import (
    CharacterMatte,
    ImageTextEncoder,
    RealImages,
    exemplar_vectors,
    read_real_images,
)
from yokai_assets.evaluation.verdicts import refusals
from yokai_assets.evaluation.weights import try_weights, weight_cells
from yokai_assets.progress import Progress, silent
from yokai_assets.settings import Settings
from yokai_assets.storage.files import write_text
from yokai_assets.storage.folders import replaced_folder
from yokai_assets.storage.layout import Layout
from yokai_assets.training.files import TrainingFiles
from yokai_assets.training.record import Checkpoint, read_training_record

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

    def sheets(self) -> dict[str, tuple[UPath, str]]:
        """Return the pictures to look at that there are: name -> file and what it shows."""
        found = {
            "sample_grid": (self.comparison, "real images, base model, checkpoints"),
            "weight_grid": (self.folder / WEIGHTS_FILE, "the chosen checkpoint at each weight"),
            "closest_pairs": (self.folder / CLOSEST_FILE, "drawn pictures and the training images nearest to them"),
        }
        return {name: sheet for name, sheet in found.items() if sheet[0].exists()}

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
    unseen, problems = _without_trained_on(dataset.filter(pl.col("character_id") == character_id), checkpoints, layout)
    held_out, training = _read_dataset(character_id, unseen, layout, settings, model, is_cut_out=matte is not None)
    yardsticks = _yardsticks(character_id, held_out, training, characters, embeddings, members, model)
    if base is None:
        from yokai_assets.training.base_model import open_base_model

        base = open_base_model(
            settings.training.base_model,
            device,
            precision=settings.training.mixed_precision,
            cache=layout.cache,
        )
    evaluation = settings.evaluation
    tried_weights = {*evaluation.weights} - {FULL_WEIGHT}
    sweep_count = len(tried_weights) * len(weight_cells(cells, evaluation.images_per_weight))
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
            total_count=len(cells) * (1 + len(checkpoints)) + sweep_count,
            problems=problems,
        )
        judge = _judge_of(work, yardsticks)
        judged = _judge_all(work, checkpoints, judge, training)
        others = [name for name in yardsticks.exemplars if name != character_id]
        comparable = comparable_vectors(model.fingerprint, is_cut_out=matte is not None)
        loaded = load_vectors(layout, others, comparable)
        anchors = anchor_table(judge, judged.chosen, judged.rows[0], judged.base_grid, loaded)
        save_vectors(vectors_of(judged.chosen_grid, judged.base_grid, judge), folder, comparable)
        save_sheets(work, judged, held_out, training)
        seconds = time.perf_counter() - started
        record = build_record(work, judged, anchors, held_out, training, yardsticks, seconds)
        write_text(folder / RECORD_FILE, record.model_dump_json(indent=2) + "\n")
    return EvaluationResult(record.to_table(), record, target, target / COMPARISON_FILE)


def _without_trained_on(
    own: pl.DataFrame, checkpoints: Sequence[Checkpoint], layout: Layout
) -> tuple[pl.DataFrame, list[str]]:
    """Leave out held-out images that this LoRA was trained on: its dataset was made anew since."""
    is_held_out = pl.col("split") == "held_out"
    is_seen = is_held_out & pl.col("instance_id").is_in(sorted(trained_images(checkpoints)))
    seen, held_out = own.filter(is_seen).height, own.filter(is_held_out).height
    if not seen:
        return own, []
    remedy = "Materialize lora_model of this character again."
    what = f"{seen} of {held_out} held-out images were trained on: the dataset was made anew since"
    if seen == held_out:
        raise EvaluationError(f"{layout.lora(own['character_id'][0])}: {what}, so nothing unseen is left. {remedy}")
    return own.filter(~is_seen), [f"{what}. They are left out. {remedy}"]


def _read_dataset(
    character_id: str,
    dataset: pl.DataFrame,
    layout: Layout,
    settings: Settings,
    model: ImageTextEncoder,
    *,
    is_cut_out: bool,
) -> tuple[RealImages, RealImages]:
    splits: list[RealImages] = []
    for split in ("held_out", "train"):
        rows = dataset.filter(pl.col("split") == split)
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


def _judge_of(work: Work, yardsticks: Yardsticks) -> Judge:
    subjects = sorted({cell.subject for cell in work.cells if cell.subject})
    texts = dict(zip(subjects, work.model.embed_texts(subjects), strict=True)) if subjects else {}
    return Judge(yardsticks, texts, work.settings.evaluation.bootstrap_samples, work.settings.seed)


def _judge_all(work: Work, checkpoints: Sequence[Checkpoint], judge: Judge, training: RealImages) -> Judged:
    losses = _validation_losses(work)
    base = draw_round(work, None)
    base_row = judge.of(0, None, base.grid, base.grid).model_copy(update={"validation_loss": losses.get(0)})
    rounds, rows = {0: base}, [base_row]
    pictures = _picture_records(0, base, judge.yardsticks, training)
    for checkpoint in checkpoints:
        try:
            digest = weights_hash(checkpoint)
            drawn = draw_round(work, checkpoint, digest)
        except UnusableCheckpointError as error:
            _LOG.warning("%s", error)
            work.problems.append(str(error))
            continue
        rounds[checkpoint.step] = drawn
        row = judge.of(checkpoint.step, work.layout.relative(checkpoint.path), drawn.grid, base.grid)
        known = {"tensors_sha256": digest, "validation_loss": losses.get(checkpoint.step)}
        rows.append(row.model_copy(update=known))
        pictures += _picture_records(checkpoint.step, drawn, judge.yardsticks, training)
    if len(rows) == 1:
        raise EvaluationError(
            f"{work.character_id}: no checkpoint can be used. {' '.join(work.problems)} Train the LoRA again."
        )
    thresholds = work.settings.evaluation
    best, scores, reason = choose_checkpoint(
        [judge.judgement(row, refusals(row.measured(), thresholds)) for row in rows[1:]]
    )
    found = {score.step: score for score in scores}
    scored = [
        row.model_copy(update={"score": found[row.step].total, "score_parts": found[row.step].parts})
        for row in rows[1:]
    ]
    checkpoint = next(checkpoint for checkpoint in checkpoints if checkpoint.step == best.step)
    tried = try_weights(
        thresholds.weights, thresholds.images_per_weight, rounds[best.step].grid, base.grid, judge,
        lambda cells, weight: draw_at_weight(work, checkpoint, cells, weight),
    )  # fmt: skip
    return Judged([base_row, *scored], pictures, rounds, best.step, reason, tried)


def _validation_losses(work: Work) -> dict[int, float]:
    """Return the losses on held-out images by step, as the training wrote them down."""
    record = read_training_record(TrainingFiles.of_character(work.layout, work.character_id)) or {}
    return {int(step): float(loss) for step, loss in record.get("validation_losses", [])}


def _picture_records(step: int, drawn: Round, yardsticks: Yardsticks, training: RealImages) -> list[PictureRecord]:
    grid, values = drawn.grid, measure_pictures(drawn.grid.subject_vectors, yardsticks)
    return [
        PictureRecord(
            step=step,
            prompt_index=cell.prompt_index,
            prompt=cell.prompt,
            seed=cell.seed,
            file=drawn.files[index],
            defect=grid.defects[index],
            resemblance=float(values.resemblance[index]) if cell.has_trigger else None,
            recognised_as=values.recognised_as[index] if cell.has_trigger else None,
            nearest_training_image=training.instance_ids[int(values.nearest_training[index])],
            nearest_training_cosine=float(values.nearest_training_cosine[index]),
        )
        for index, cell in enumerate(grid.cells)
    ]
