"""What an evaluation leaves behind: `evaluation.json`, its schema, and reading it back.

Plain data. The table `EVALUATIONS` is derived from it; publishing and the gallery read it.
"""

from pathlib import Path
from typing import Any, Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from yokai_assets.evaluation.grid import EvaluationError
from yokai_assets.storage.files import is_local, recover_folder
from yokai_assets.storage.layout import Layout
from yokai_assets.tables import EVALUATIONS

RECORD_FILE = "evaluation.json"


class _Record(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Measure(_Record):
    """A mean with its 95 % bootstrap interval over pictures."""

    mean: float
    low: float
    high: float


class CheckpointRecord(_Record):
    """One judged checkpoint; step 0 is the base model."""

    step: int
    checkpoint: str | None = Field(description="File relative to the data root; null for the base model.")
    tensors_sha256: str | None = Field(default=None, description="Hash of the judged weights; null for the base model.")
    image_count: int = Field(description="Pictures drawn, control prompts included.")
    defect_count: int = Field(description="Pictures that are black, constant or not a number.")
    resemblance: Measure = Field(description="Cosine of drawn to reference pictures.")
    resemblance_gain: Measure | None = Field(description="Resemblance minus the base model's, picture by picture.")
    covered: Measure | None = Field(
        description="Share of the distance base to real that is covered; null where there is no distance."
    )
    identification: Measure = Field(description="Share of pictures whose nearest character is the right one.")
    text_similarity: Measure | None = Field(
        description="Image-text cosine with the prompt without its trigger word; null without such prompts."
    )
    prompt_following: Measure | None = Field(
        description="How much nearer pictures are to their own prompt's text than pictures of other prompts are; null "
        "with fewer than two different texts. See `measures.prompt_contrasts`."
    )
    prompt_loss: Measure | None = Field(
        description="Share of the base model's prompt-following that is lost; negative: won. Null for the base model, "
        "and where that follows no prompt itself."
    )
    diversity: Measure = Field(description="Cosine distance to the other pictures of the same prompt.")
    memorised_share: Measure = Field(
        description="Share of pictures nearer to a training image than any held-out image is to one."
    )
    bleeding: Measure | None = Field(
        description="Cosine distance to the base's pictures of prompts without trigger; null without such."
    )
    validation_loss: float | None = Field(default=None, description="Loss on held-out images at this step of training.")
    recognised_as: dict[str, int] = Field(description="Pictures by the character they resemble most.")
    score: float | None = Field(description="Score of the choice; null for the base model.")
    score_parts: dict[str, float] = Field(default_factory=dict)

    @property
    def covered_share(self) -> float | None:
        """Share of the distance base to real that is covered."""
        return self.covered.mean if self.covered else None

    @property
    def own_count(self) -> int:
        """Pictures drawn with the trigger word."""
        return sum(self.recognised_as.values())

    def measured(self) -> dict[str, Any]:
        """Return the columns of `EVALUATIONS` that this checkpoint alone says."""
        values: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("step", "checkpoint", "image_count", "defect_count", "validation_loss", "score")
        }
        for column, attribute in _MEASURED_COLUMNS.items():
            measure: Measure | None = getattr(self, attribute)
            values[column] = measure.mean if measure else None
            values[f"{column}_low"] = measure.low if measure else None
            values[f"{column}_high"] = measure.high if measure else None
        return values


class WeightRecord(_Record):
    """The chosen checkpoint at one weight."""

    weight: float
    score: float
    score_parts: dict[str, float]
    covered_share: float | None
    identification: float
    prompt_following: float | None


class AnchorRecord(_Record):
    """One row of the table that the chosen checkpoint is read against."""

    kind: Literal["real", "base", "other", "this"] = Field(
        description="Held-out images, base model, the LoRA of another character, this LoRA."
    )
    name: str
    character_id: str | None = Field(default=None, description="Whose LoRA; null for images and base model.")
    resemblance: Measure
    covered: Measure | None
    identification: Measure = Field(description="Share recognised as the character of this evaluation.")
    diversity: Measure
    memorised_share: Measure | None = Field(description="Null for real images, which are the yardstick.")
    prompt_following: Measure | None = Field(default=None, description="Null where nothing was drawn here.")


class PictureRecord(_Record):
    """One drawn picture."""

    step: int
    prompt_index: int
    prompt: str
    seed: int
    file: str = Field(description="PNG, relative to the folder of evaluation.json.")
    defect: str | None = None
    resemblance: float | None = Field(None, description="Null for control prompts.")
    recognised_as: str | None = None
    nearest_training_image: str | None = Field(None, description="instance_id of the nearest training image.")
    nearest_training_cosine: float | None = None


class EvaluationRecord(_Record):
    """A character's evaluation."""

    schema_version: Literal[2] = 2
    series: str
    character_id: str
    trigger: str
    chosen_step: int
    chosen_checkpoint: str = Field(description="File relative to the data root.")
    reason: str
    notes: list[str] = Field(description="What limits these numbers, in words.")
    fingerprint: str = Field(description="sha256 of all that the measures depend on but the LoRA; equal: comparable.")
    base_model: str
    base_fingerprint: str
    embedding_fingerprint: str
    is_cut_out: bool = Field(description="Characters were cut out before comparing.")
    reference: Literal["held_out", "train"] = Field(description="Split that drawn pictures are compared with.")
    reference_count: int
    training_count: int
    characters_compared: int = Field(description="Characters among which pictures had to be recognised.")
    real_to_real: Measure
    real_diversity: float
    memorising_yardstick: float
    prompts: list[str]
    seeds: list[int]
    inference_steps: int
    guidance_scale: float
    side_px: int
    anchors: list[AnchorRecord] = Field(
        description="Real images, base model, the nearest LoRA of another character that had been judged by then, this."
    )
    suggested_weight: float = Field(description="The weight with the best score; 1.0 where no other was tried.")
    weight_reason: str = Field(description="Why this weight, in words.")
    weights: list[WeightRecord] = Field(description="The chosen checkpoint at each weight that was tried.")
    checkpoints: list[CheckpointRecord]
    pictures: list[PictureRecord]
    comparison: str = Field(description="Picture of base, checkpoints and real images side by side; relative.")
    seconds: float

    @property
    def comparable(self) -> str:
        """What is equal where two characters' vectors can be compared: image encoder, and what it looks at."""
        return comparable_vectors(self.embedding_fingerprint, is_cut_out=self.is_cut_out)

    @property
    def base(self) -> CheckpointRecord:
        """The base model's row."""
        return next(row for row in self.checkpoints if row.step == 0)

    @property
    def chosen(self) -> CheckpointRecord:
        """The chosen checkpoint's row."""
        return next(row for row in self.checkpoints if row.step == self.chosen_step and row.checkpoint)

    def to_table(self) -> pl.DataFrame:
        """Return the rows of table `EVALUATIONS`."""
        return EVALUATIONS.from_rows(self._row(row) for row in self.checkpoints)

    def _row(self, row: CheckpointRecord) -> dict[str, Any]:
        is_chosen = row.step == self.chosen_step
        return {
            **row.measured(),
            "character_id": self.character_id,
            "real_to_real": self.real_to_real.mean,
            "suggested_weight": self.suggested_weight if is_chosen else None,
            "is_chosen": is_chosen,
        }


_MEASURED_COLUMNS = {
    "resemblance": "resemblance",
    "resemblance_gain": "resemblance_gain",
    "covered_share": "covered",
    "identification": "identification",
    "text_similarity": "text_similarity",
    "prompt_following": "prompt_following",
    "prompt_loss": "prompt_loss",
    "diversity": "diversity",
    "memorised_share": "memorised_share",
    "bleeding": "bleeding",
}
"""Column of `EVALUATIONS` (and with `_low`, `_high`) -> field of a checkpoint's record."""


def comparable_vectors(embedding_fingerprint: str, *, is_cut_out: bool) -> str:
    """Name what vectors are of; only those of one kind compare."""
    return f"{embedding_fingerprint} {'cut out' if is_cut_out else 'whole'}"


def load_evaluation(layout: Layout, character_id: str) -> EvaluationRecord:
    """Read a character's evaluation.

    Raises:
        EvaluationError: There is none, or the file is damaged or of another version.
    """
    folder = layout.lora_tests(character_id)
    if is_local(folder):
        recover_folder(Path(str(folder)))
    path = folder / RECORD_FILE
    if not path.exists():
        raise EvaluationError(f"{path}: no evaluation yet. Materialize lora_evaluation of {character_id} first.")
    try:
        return EvaluationRecord.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        reason = f"{'.'.join(map(str, first['loc'])) or 'JSON'}: {first['msg']}"
    except OSError as error:
        reason = str(error)
    raise EvaluationError(f"{path}: cannot be read ({reason}). Materialize the character's evaluation again.")
