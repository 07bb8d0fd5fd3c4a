"""The JSON beside a LoRA that A1111 and Forge read, and what this platform remembers in it.

`activation text` puts the trigger into a prompt with one click. The block `yokai` holds hash, score and judgement of
the published file, which the next publication compares with, and which newer LoRA was rejected since.
"""

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidatorFunctionWrapHandler, field_validator
from upath import UPath

from yokai_assets.evaluation.record import EvaluationRecord
from yokai_assets.training.safetensors_header import LoraFileError, read_header

WEIGHTS_KEY = "yokai.tensors_sha256"
"""Key of a published LoRA's header: hash of its weights, by which its sidecar is recognised."""

SdVersion = Literal["SD1", "SDXL", "Unknown"]
_USER_KEYS = ("description", "preferred weight", "negative text", "notes")


class Rejection(BaseModel):
    """A newer LoRA that was not published, because the published one scores higher on the same pictures."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    step: int
    score: float
    tensors_sha256: str
    rejected_at: str
    reason: str = Field(description="In words.")


class PublicationRecord(BaseModel):
    """What is known of the published file: the block `yokai` of its sidecar."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    tensors_sha256: str = Field(description="Hash of the weights, see `training.safetensors_header`.")
    step: int
    score: float
    evaluation_fingerprint: str = Field(description="Scores compare only where this is equal.")
    base_model: str
    base_fingerprint: str
    published_at: str
    lineage: dict[str, str] = Field(default_factory=dict)
    evaluation: EvaluationRecord | None = Field(
        default=None,
        description="How the published file was judged: the rows of base model and published step, no pictures; "
        "`comparison` lies beside the sidecar. The evaluation on disk may be of a newer training. Null: not known.",
    )
    rejected: Rejection | None = Field(
        default=None, description="The newest LoRA that was judged after it and not published."
    )
    written: dict[str, Any] = Field(
        default_factory=dict, description="Values as this platform wrote them, to tell a person's edits from them."
    )

    @field_validator("evaluation", mode="wrap")
    @classmethod
    def _of_this_version(cls, value: Any, validate: ValidatorFunctionWrapHandler) -> EvaluationRecord | None:
        try:
            return validate(value)
        except ValidationError:
            return None  # of another version: score and hash still count


def judged_as_published(evaluation: EvaluationRecord, samples: str) -> EvaluationRecord:
    """Return what a publication record keeps of the evaluation of the published file.

    Args:
        evaluation: The evaluation whose chosen checkpoint is published.
        samples: Name of the comparison picture beside the sidecar.
    """
    rows = [evaluation.base, evaluation.chosen]
    return evaluation.model_copy(update={"checkpoints": rows, "pictures": [], "comparison": samples})


def sd_version(architecture: str) -> SdVersion:
    """Return the name A1111 and Forge use for a `modelspec.architecture`."""
    if architecture.startswith("stable-diffusion-xl"):
        return "SDXL"
    return "SD1" if architecture.startswith("stable-diffusion-v1") else "Unknown"


def read_sidecar(path: UPath) -> tuple[dict[str, Any], PublicationRecord | None]:
    """Return a sidecar's values and the publication record of the LoRA beside it.

    A missing or foreign sidecar has no record, nor has one that speaks of other weights than those that lie there: a
    publication was stopped between the two files, and the next one mends it.
    """
    values, record = read_written(path)
    lora = path.parent / f"{path.name.removesuffix('.json')}.safetensors"
    if record is not None and _hash_of_weights(lora) not in (None, record.tensors_sha256):
        return values, None
    return values, record


def read_written(path: UPath) -> tuple[dict[str, Any], PublicationRecord | None]:
    """Return a sidecar's values and its record as they were written, whatever lies beside them."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            return {}, None
    except (OSError, ValueError):
        return {}, None
    try:
        return values, PublicationRecord.model_validate(values["yokai"])
    except (KeyError, ValidationError):
        return values, None


def _hash_of_weights(lora: UPath) -> str | None:
    """Return the hash that the header of a published LoRA says; None where it says none or there is no such file."""
    try:
        return read_header(lora).metadata.get(WEIGHTS_KEY)
    except LoraFileError:
        return None


def merge_sidecar(
    previous: dict[str, Any], previous_record: PublicationRecord | None, ours: dict[str, Any], record: PublicationRecord
) -> dict[str, Any]:
    """Return the sidecar to write: our values, but what a person has edited stays."""
    known = previous_record.written if previous_record else {}
    edited = {key: previous[key] for key in _USER_KEYS if key in previous and previous[key] != known.get(key)}
    foreign = {key: value for key, value in previous.items() if key not in ours and key != "yokai"}
    block = record.model_copy(update={"written": {key: ours[key] for key in _USER_KEYS if key in ours}})
    return {**foreign, **ours, **edited, "yokai": block.model_dump(mode="json")}
