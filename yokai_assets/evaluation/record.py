"""What an evaluation leaves behind: `evaluation.json`, its schema, and reading it back.

Plain data. The table `EVALUATIONS` is derived from it; publishing and the gallery read it.
"""

from pathlib import Path
from typing import Literal

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
    covered_share: float | None = Field(description="Share of the distance base to real that is covered.")
    identification: Measure
    prompt_following: Measure | None = Field(description="Image-text cosine with the prompt without its trigger.")
    diversity: Measure
    memorised_share: Measure
    bleeding: Measure | None = Field(
        description="Cosine distance to the base's pictures of prompts without trigger; null without such."
    )
    recognised_as: dict[str, int] = Field(description="Pictures by the character they resemble most.")
    score: float | None = Field(description="Score of the choice; null for the base model.")
    score_parts: dict[str, float] = Field(default_factory=dict)


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

    schema_version: Literal[1] = 1
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
    checkpoints: list[CheckpointRecord]
    pictures: list[PictureRecord]
    comparison: str = Field(description="Picture of base, checkpoints and real images side by side; relative.")
    seconds: float

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
        return EVALUATIONS.from_rows(
            {
                "character_id": self.character_id,
                "step": row.step,
                "checkpoint": row.checkpoint,
                "image_count": row.image_count,
                "resemblance": row.resemblance.mean,
                "resemblance_low": row.resemblance.low,
                "resemblance_high": row.resemblance.high,
                "real_to_real": self.real_to_real.mean,
                "covered_share": row.covered_share,
                "identification": row.identification.mean,
                "prompt_following": row.prompt_following.mean if row.prompt_following else None,
                "diversity": row.diversity.mean,
                "memorised_share": row.memorised_share.mean,
                "is_chosen": row.step == self.chosen_step,
            }
            for row in self.checkpoints
        )


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
