"""What an evaluation leaves behind: pictures to look at, the record, and the notes on its limits.

Putting together only; drawing, measuring and choosing are done before.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from yokai_assets.datasets import load_training_image
from yokai_assets.evaluation.comparison import ComparisonRow, comparison_grid
from yokai_assets.evaluation.grid import GridCell
from yokai_assets.evaluation.judging import DrawnGrid, Yardsticks
from yokai_assets.evaluation.measures import bootstrap_mean
from yokai_assets.evaluation.record import AnchorRecord, CheckpointRecord, EvaluationRecord, Measure, PictureRecord
from yokai_assets.evaluation.rounds import SHOWN_COLUMNS, Round, Work, shown_cells
from yokai_assets.evaluation.subjects import RealImages
from yokai_assets.evaluation.weights import TriedWeights, reason_of
from yokai_assets.frames.decoding import IMAGE_ERRORS, open_image
from yokai_assets.previews import encode_preview
from yokai_assets.storage.files import sha256_of_parts, write_bytes

COMPARISON_FILE = "comparison.webp"
WEIGHTS_FILE = "weights.webp"
CLOSEST_FILE = "closest.webp"
_SHEET_BYTES = 400_000


@dataclass(frozen=True, slots=True)
class Judged:
    """What was found: records of the base (first) and the checkpoints, their pictures, the choice, the weights."""

    rows: list[CheckpointRecord]
    pictures: list[PictureRecord]
    rounds: dict[int, Round]
    chosen_step: int
    reason: str
    tried: TriedWeights

    @property
    def chosen(self) -> CheckpointRecord:
        """The chosen checkpoint's record."""
        return next(row for row in self.rows if row.step == self.chosen_step and row.checkpoint)

    @property
    def chosen_grid(self) -> DrawnGrid:
        """The chosen checkpoint's pictures."""
        return self.rounds[self.chosen_step].grid

    @property
    def base_grid(self) -> DrawnGrid:
        """The base model's pictures."""
        return self.rounds[0].grid


def save_sheets(work: Work, judged: Judged, held_out: RealImages, training: RealImages) -> None:
    """Write the pictures to look at: models side by side, weights side by side, closest training images."""
    sheets = {
        COMPARISON_FILE: _comparison(work, judged, held_out if held_out.shown else training),
        WEIGHTS_FILE: _weights(work, judged),
        CLOSEST_FILE: _closest(work, judged, training),
    }
    for name, sheet in sheets.items():
        if sheet is not None:
            write_bytes(work.folder / name, encode_preview(sheet, max_bytes=_SHEET_BYTES))


def build_record(
    work: Work,
    judged: Judged,
    anchors: list[AnchorRecord],
    held_out: RealImages,
    training: RealImages,
    yardsticks: Yardsticks,
    seconds: float,
) -> EvaluationRecord:
    """Return the record of a finished evaluation."""
    settings = work.settings
    evaluation = settings.evaluation
    real = bootstrap_mean(yardsticks.real_to_real, evaluation.bootstrap_samples, settings.seed)
    return EvaluationRecord(
        series=work.layout.series,
        character_id=work.character_id,
        trigger=work.trigger,
        chosen_step=judged.chosen_step,
        chosen_checkpoint=judged.chosen.checkpoint or "",
        reason=judged.reason,
        notes=_notes(work, held_out, training, yardsticks, judged, anchors),
        fingerprint=_comparability(work, held_out, training, yardsticks),
        base_model=work.base.public_name,
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
        anchors=anchors,
        suggested_weight=judged.tried.suggested,
        weight_reason=reason_of(judged.tried),
        weights=judged.tried.rows,
        checkpoints=judged.rows,
        pictures=judged.pictures,
        comparison=COMPARISON_FILE,
        seconds=round(seconds, 3),
    )


def _comparison(work: Work, judged: Judged, real: RealImages) -> Image.Image:
    columns = shown_cells(work.cells)
    lines = [ComparisonRow("real", "held-out images" if real.shown else "", real.shown[: len(columns)])]
    lines += [
        ComparisonRow(
            "base model" if row.step == 0 else f"step {row.step:,}",
            f"cosine {row.resemblance.mean:.3f}, recognised {row.identification.mean:.0%}",
            judged.rounds[row.step].shown,
            is_chosen=row.step == judged.chosen_step and row.step > 0,
        )
        for row in judged.rows
    ]
    return comparison_grid(lines, _headings([work.cells[index] for index in columns]))


def _weights(work: Work, judged: Judged) -> Image.Image | None:
    tried = judged.tried
    if not tried.rows:
        return None
    columns = shown_cells(tried.cells)
    # Weight 1 is drawn already, with more seeds: its pictures of the same cells stand here.
    at_full = _shown_by_cell(work, judged.rounds[judged.chosen_step])
    lines = []
    for row in tried.rows:
        shown = tried.shown.get(row.weight) or [
            at_full[tried.cells[index]] for index in columns if tried.cells[index] in at_full
        ]
        covered = "" if row.covered_share is None else f", covers {row.covered_share:.0%}"
        note = f"score {row.score:.3f}{covered}"
        lines.append(ComparisonRow(f"weight {row.weight:g}", note, shown, is_chosen=row.weight == tried.suggested))
    return comparison_grid(lines, _headings([tried.cells[index] for index in columns]))


def _shown_by_cell(work: Work, drawn: Round) -> dict[GridCell, Image.Image]:
    return {work.cells[index]: image for index, image in zip(shown_cells(work.cells), drawn.shown, strict=True)}


def _closest(work: Work, judged: Judged, training: RealImages) -> Image.Image | None:
    """Draw the pictures that come nearest to a training image over that image."""
    own = [p for p in judged.pictures if p.step == judged.chosen_step and p.resemblance is not None]
    nearest = sorted(own, key=lambda picture: (-(picture.nearest_training_cosine or 0.0), picture.file))
    pairs = []
    for picture in nearest[:SHOWN_COLUMNS]:
        try:
            image, _ = load_training_image(work.layout, training.rows[picture.nearest_training_image or ""])
            with open_image(work.folder / picture.file) as opened:
                pairs.append((opened.convert("RGB"), image, f"cosine {picture.nearest_training_cosine:.3f}"))
        except IMAGE_ERRORS:
            continue
    if not pairs:
        return None
    drawn, trained, headings = zip(*pairs, strict=True)
    rows = [ComparisonRow("drawn", f"step {judged.chosen_step:,}", drawn), ComparisonRow("training image", "", trained)]
    return comparison_grid(rows, headings)


def _headings(cells: Sequence[GridCell]) -> list[str]:
    prompts = [cell.prompt for cell in cells]
    return [text if not index or text != prompts[index - 1] else "" for index, text in enumerate(prompts)]


def _notes(
    work: Work,
    held_out: RealImages,
    training: RealImages,
    yardsticks: Yardsticks,
    judged: Judged,
    anchors: Sequence[AnchorRecord],
) -> list[str]:
    unreadable = len(held_out.problems) + len(training.problems)
    chosen, gain = judged.chosen, judged.chosen.resemblance_gain
    held_out_count, defects = len(held_out.instance_ids), chosen.defect_count
    whole, alone = work.matte is None, len(yardsticks.exemplars) == 1
    is_within_noise = gain is not None and gain.low <= 0
    follows_nothing = chosen.prompt_following is not None and chosen.prompt_loss is None
    has_other = any(anchor.kind == "other" for anchor in anchors)
    conditions = (
        (not held_out_count, "Nothing is held out: resemblance to training images flatters the LoRA."),
        (0 < held_out_count < 5, f"Only {held_out_count} held-out image(s): the measures are rough."),
        (alone, "Recognition is trivial: no other active character has exemplars."),
        (not has_other, "No other character's LoRA had been judged to compare with."),
        (whole, "Whole pictures were compared: backgrounds count too."),
        (unreadable > 0, f"{unreadable} dataset image(s) could not be read and are left out."),
        (chosen.covered_share is None, "The base model is as near as real pictures are to each other."),
        (is_within_noise, "The gain over the base model is within its 95 % interval of zero."),
        (follows_nothing, "The base model itself does not surely follow these prompts: what is lost is not told."),
        (defects > 0, f"{defects} picture(s) of the chosen step are black, constant or not a number."),
    )
    return [*work.problems, *(text for is_so, text in conditions if is_so)]


def _comparability(work: Work, held_out: RealImages, training: RealImages, yardsticks: Yardsticks) -> str:
    """Return the hash of what the scores depend on besides the LoRA."""
    evaluation = work.settings.evaluation
    drawn = ("prompts", "images_per_prompt", "inference_steps", "guidance_scale", "negative_prompt")
    return sha256_of_parts(
        evaluation.model_dump(include=set(drawn)),
        [work.settings.seed, work.side_px, work.trigger, work.matte is not None],
        work.base.fingerprint,
        work.model.fingerprint,
        # Not vectors of these images: another device or batch size rounds them differently.
        held_out.identity,
        training.identity,
        *(part for name, vectors in sorted(yardsticks.exemplars.items()) for part in (name, _bytes_of(vectors))),
    )


def _bytes_of(vectors: np.ndarray) -> bytes:
    return np.ascontiguousarray(vectors, np.float32).tobytes()
