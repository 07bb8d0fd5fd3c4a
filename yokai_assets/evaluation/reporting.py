"""What an evaluation leaves behind: the comparison picture, the record, and the notes on its limits.

Putting together only; drawing, measuring and choosing are done before.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from yokai_assets.evaluation.comparison import ComparisonRow, comparison_grid
from yokai_assets.evaluation.drawing import PictureModel
from yokai_assets.evaluation.grid import GridCell
from yokai_assets.evaluation.judging import Yardsticks
from yokai_assets.evaluation.measures import bootstrap_mean
from yokai_assets.evaluation.record import CheckpointRecord, EvaluationRecord, Measure, PictureRecord
from yokai_assets.evaluation.subjects import CharacterMatte, ImageTextEncoder, RealImages
from yokai_assets.progress import Progress
from yokai_assets.settings import Settings
from yokai_assets.storage.files import sha256_of_parts, write_bytes
from yokai_assets.storage.layout import Layout

COMPARISON_FILE = "comparison.webp"
SHOWN_COLUMNS = 8


@dataclass(slots=True)
class Work:
    """What the steps of one evaluation share."""

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
    shown: dict[int, list[Image.Image]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    done_count: int = 0
    total_count: int = 0


@dataclass(frozen=True, slots=True)
class Judged:
    """What was found: records of the base (first) and the checkpoints, their pictures, the choice."""

    rows: list[CheckpointRecord]
    pictures: list[PictureRecord]
    chosen_step: int
    reason: str


def shown_cells(cells: Sequence[GridCell]) -> list[int]:
    """Return cells for the comparison: the first seeds of every prompt, as many as fit."""
    prompts = sorted({cell.prompt_index for cell in cells})[:SHOWN_COLUMNS]
    each = max(1, SHOWN_COLUMNS // len(prompts))
    return [
        index
        for prompt in prompts
        for index in [i for i, cell in enumerate(cells) if cell.prompt_index == prompt][:each]
    ]


def save_comparison(work: Work, judged: Judged, real: RealImages) -> None:
    """Write the picture of real images, base model and checkpoints side by side."""
    from yokai_assets.previews import encode_preview

    columns = shown_cells(work.cells)
    prompts = [work.cells[index].prompt for index in columns]
    headings = [text if not i or text != prompts[i - 1] else "" for i, text in enumerate(prompts)]
    lines = [ComparisonRow("real", "held-out images" if real.shown else "", real.shown[: len(columns)])]
    for row in judged.rows:
        recognised = f"recognised {row.identification.mean:.0%}"
        lines.append(
            ComparisonRow(
                "base model" if row.step == 0 else f"step {row.step:,}",
                f"cosine {row.resemblance.mean:.3f}, {recognised}",
                work.shown[row.step],
                is_chosen=row.step == judged.chosen_step and row.step > 0,
            )
        )
    sheet = comparison_grid(lines, headings)
    write_bytes(work.folder / COMPARISON_FILE, encode_preview(sheet, max_bytes=400_000))


def build_record(
    work: Work,
    judged: Judged,
    held_out: RealImages,
    training: RealImages,
    yardsticks: Yardsticks,
    seconds: float,
) -> EvaluationRecord:
    """Return the record of a finished evaluation."""
    chosen = next(row for row in judged.rows if row.step == judged.chosen_step and row.checkpoint)
    settings = work.settings
    evaluation = settings.evaluation
    real = bootstrap_mean(yardsticks.real_to_real, evaluation.bootstrap_samples, settings.seed)
    return EvaluationRecord(
        series=work.layout.series,
        character_id=work.character_id,
        trigger=work.trigger,
        chosen_step=judged.chosen_step,
        chosen_checkpoint=chosen.checkpoint or "",
        reason=judged.reason,
        notes=_notes(work, held_out, training, yardsticks, chosen),
        fingerprint=_comparability(work, held_out, training, yardsticks),
        base_model=settings.training.base_model,
        base_fingerprint=work.base.fingerprint,
        embedding_fingerprint=work.model.fingerprint,
        is_cut_out=work.matte is not None,
        reference="held_out" if held_out.instance_ids else "train",
        reference_count=len(yardsticks.reference),
        training_count=len(training.instance_ids),
        characters_compared=len(yardsticks.exemplars),
        real_to_real=Measure(mean=real.mean, low=real.low, high=real.high),
        real_diversity=yardsticks.real_diversity,
        memorising_yardstick=yardsticks.memorising,
        prompts=list(evaluation.prompts),
        seeds=sorted({cell.seed for cell in work.cells}),
        inference_steps=evaluation.inference_steps,
        guidance_scale=evaluation.guidance_scale,
        side_px=work.side_px,
        checkpoints=judged.rows,
        pictures=judged.pictures,
        comparison=COMPARISON_FILE,
        seconds=round(seconds, 3),
    )


def _notes(
    work: Work, held_out: RealImages, training: RealImages, yardsticks: Yardsticks, chosen: CheckpointRecord
) -> list[str]:
    unreadable = len(held_out.problems) + len(training.problems)
    gain = chosen.resemblance_gain
    held_out_count, defects = len(held_out.instance_ids), chosen.defect_count
    whole, alone = work.matte is None, len(yardsticks.exemplars) == 1
    is_within_noise = gain is not None and gain.low <= 0
    conditions = (
        (not held_out_count, "Nothing is held out: resemblance to training images flatters the LoRA."),
        (0 < held_out_count < 5, f"Only {held_out_count} held-out image(s): the measures are rough."),
        (alone, "Recognition is trivial: no other active character has exemplars."),
        (whole, "Whole pictures were compared: backgrounds count too."),
        (unreadable > 0, f"{unreadable} dataset image(s) could not be read and are left out."),
        (chosen.covered_share is None, "The base model is as near as real pictures are to each other."),
        (is_within_noise, "The gain over the base model is within its 95 % interval of zero."),
        (defects > 0, f"{defects} picture(s) of the chosen step are black, constant or not a number."),
    )
    return [*work.problems, *(text for is_so, text in conditions if is_so)]


def _comparability(work: Work, held_out: RealImages, training: RealImages, yardsticks: Yardsticks) -> str:
    """Return the hash of what the scores depend on besides the LoRA."""
    return sha256_of_parts(
        work.settings.evaluation.model_dump(exclude={"max_checkpoints", "bootstrap_samples"}),
        [work.settings.seed, work.side_px, work.trigger, work.matte is not None],
        work.base.fingerprint,
        work.model.fingerprint,
        held_out.instance_ids,
        training.instance_ids,
        np.ascontiguousarray(yardsticks.reference, np.float32).tobytes(),
        {name: len(vectors) for name, vectors in yardsticks.exemplars.items()},
    )
