"""All that is known of one character, gathered from what the stages left behind.

Reading only. What is missing is a stage that has not run; what is damaged becomes a problem that the page shows.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, ValidationError
from upath import UPath

from yokai_assets.analysis import read_profile
from yokai_assets.analysis.profile import CharacterProfile
from yokai_assets.datasets import EditsError, read_edits
from yokai_assets.evaluation import EvaluationError, EvaluationRecord, load_evaluation
from yokai_assets.evaluation.record import RECORD_FILE
from yokai_assets.gallery.failures import FailureRecord
from yokai_assets.gallery.scenes import Scene
from yokai_assets.publishing import PublicationRecord, read_sidecar
from yokai_assets.storage.layout import Layout
from yokai_assets.storage.parquet import read_table_if_there
from yokai_assets.tables import CAPTIONS, DATASET, TableError

Status = Literal[
    "published",
    "evaluated",
    "trained",
    "dataset",
    "waiting",
    "failed",
    "doubtful",
    "too_small",
    "dismissed",
    "merged",
    "retired",
]

STATUS_TEXTS: Mapping[Status, str] = {
    "published": "LoRA published",
    "evaluated": "evaluated, not published yet",
    "trained": "trained, not evaluated yet",
    "dataset": "training set ready, not trained yet",
    "waiting": "found, no training set yet",
    "failed": "failed",
    "doubtful": "not trained unless accepted",
    "too_small": "too few images to train",
    "dismissed": "no character",
    "merged": "now part of another character",
    "retired": "retired",
}

_STATUS_OF_STATE: Mapping[str, Status] = {
    "provisional": "doubtful",
    "split_from": "doubtful",
    "too_small": "too_small",
    "not_a_character": "dismissed",
    "merged_into": "merged",
    "retired": "retired",
}


STATUS_LABELS: Mapping[Status, str] = {
    "published": "LoRA ready",
    "evaluated": "evaluated",
    "trained": "trained",
    "dataset": "dataset ready",
    "waiting": "waiting",
    "failed": "failed",
    "doubtful": "in doubt",
    "too_small": "too small",
    "dismissed": "no character",
    "merged": "merged",
    "retired": "retired",
}


class TrainingRecord(BaseModel):
    """What the gallery shows of `<character>-training.json`."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    base_model: str = ""
    losses: list[float] = []
    validation_losses: list[tuple[int, float]] = []
    train_count: int = 0
    held_out_count: int = 0
    seconds: float = 0.0
    images_per_second: float = 0.0
    config: dict[str, Any] = {}


@dataclass(slots=True)
class CharacterEntry:
    """One character; fields of stages that have not run are empty.

    Attributes:
        character_id: Stable id.
        state: Registry state; see `registry.states`.
        state_reason: Why it is in that state, and which other character it concerns.
        name: What people call it.
        member_count: Instances.
        episode_count: Episodes it is seen in.
        exemplars: Cut-outs (relative to the data root), most typical first.
        scenes: The same with their shots and clean plates.
        trigger: Trigger word.
        dataset: `DATASET` rows.
        profile: Traits.
        evaluation: Judgement of its checkpoints.
        publication: What is known of the published LoRA.
        lora: Published LoRA, relative to the data root.
        training: Record of the last finished training.
        events: Rows of `EVENTS`, oldest first.
        decisions: Rows of `DECISIONS` that concern it, oldest first.
        edits: What people changed in its training set by hand, in numbers.
        failures: Open failures.
        too_small_reason: Why its training set is too small, if it is.
        problems: Files that could not be read, in words.
    """

    character_id: str
    state: str
    member_count: int
    episode_count: int
    exemplars: list[str]
    scenes: list[Scene] = field(default_factory=list)
    state_reason: str = ""
    name: str | None = None
    trigger: str | None = None
    dataset: pl.DataFrame = field(default_factory=DATASET.empty)
    profile: CharacterProfile | None = None
    evaluation: EvaluationRecord | None = None
    publication: PublicationRecord | None = None
    lora: str | None = None
    training: TrainingRecord | None = None
    events: list[dict[str, Any]] = field(default_factory=list)
    decisions: list[dict[str, Any]] = field(default_factory=list)
    edits: dict[str, int] = field(default_factory=dict)
    failures: list[FailureRecord] = field(default_factory=list)
    too_small_reason: str | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        """Name and id."""
        return f"{self.name} · {self.character_id}" if self.name else self.character_id

    @property
    def status(self) -> Status:
        """How far the character has come."""
        if self.state in _STATUS_OF_STATE:
            return _STATUS_OF_STATE[self.state]
        if self.lora:
            return "published"
        if self.failures:
            return "failed"
        if self.too_small_reason:
            return "too_small"
        if self.evaluation:
            return "evaluated"
        if self.training:
            return "trained"
        return "dataset" if self.dataset.height else "waiting"

    @property
    def status_text(self) -> str:
        """The status in words, with the reason of a failure."""
        text = STATUS_TEXTS[self.status]
        if self.status == "failed":
            return f"{text}: {self.failures[0].reason}"
        if self.status == "too_small":
            text = (
                f"{text}: {self.too_small_reason}" if self.too_small_reason else f"{text} ({self.member_count} found)"
            )
        if self.state_reason and self.status in ("doubtful", "dismissed", "merged", "retired"):
            text = f"{text}: {self.state_reason}"
        if self.lora and self.state in _STATUS_OF_STATE:
            text += "; the LoRA that was published before is still there"
        if self.lora and self.publication and self.publication.rejected:
            text += f"; a newer one was not published: {self.publication.rejected.reason}"
        return text

    @property
    def judgement(self) -> EvaluationRecord | None:
        """How the published LoRA was judged, else the newest evaluation, which may be of one that was rejected."""
        of_published = self.publication.evaluation if self.lora and self.publication else None
        return of_published or self.evaluation

    @property
    def image_counts(self) -> dict[str, int]:
        """Dataset images by split."""
        return {split: self.dataset.filter(pl.col("split") == split).height for split in ("train", "held_out")}

    @property
    def description(self) -> str:
        """The traits in a few words."""
        if self.profile is None:
            return ""
        readings = self.profile.identity.values()
        # Profiles of an earlier version have no tags.
        return ", ".join(filter(None, (one.value if one.tag is None else one.tag for one in readings)))


def load_character(
    row: Mapping[str, Any],
    layout: Layout,
    scenes: Mapping[str, Scene],
    events: Sequence[dict[str, Any]],
    decisions: Sequence[dict[str, Any]],
    failures: Sequence[FailureRecord],
) -> CharacterEntry:
    """Gather a character.

    Args:
        row: Its row of `CHARACTERS`.
        layout: Where files lie.
        scenes: What exemplars were cut from, by instance_id.
        events: `EVENTS` of this character, oldest first.
        decisions: `DECISIONS` that concern it, oldest first.
        failures: Open failures of this character's partition.
    """
    character_id = row["character_id"]
    own = [scenes[name] for name in row["exemplars"] or [] if name in scenes]
    entry = CharacterEntry(
        character_id=character_id,
        state=row["state"],
        member_count=row["member_count"],
        episode_count=row["episode_count"],
        state_reason=": ".join(part for part in (row["other_id"], row["reason"]) if part),
        name=row["name"],
        exemplars=[scene.cutout for scene in own],
        scenes=own,
        events=list(events),
        decisions=list(decisions),
        failures=[failure for failure in failures if not failure.is_too_small],
        too_small_reason=next((failure.reason for failure in failures if failure.is_too_small), None),
    )
    _read_tables(entry, layout)
    _read_profile(entry, layout)
    _read_evaluation(entry, layout)
    _read_lora(entry, layout)
    return entry


def _read_tables(entry: CharacterEntry, layout: Layout) -> None:
    try:
        entry.dataset = read_table_if_there(DATASET, layout.table("training_dataset", entry.character_id))
        captions = read_table_if_there(CAPTIONS, layout.table("captions", entry.character_id))
        entry.trigger = captions["trigger"][0] if captions.height else None
    except TableError as error:
        entry.problems.append(str(error))
    try:
        entry.edits = read_edits(layout, entry.character_id).counts
    except (EditsError, OSError) as error:
        entry.problems.append(str(error))


def _read_profile(entry: CharacterEntry, layout: Layout) -> None:
    try:
        entry.profile = read_profile(layout, entry.character_id)
    except FileNotFoundError:
        return
    except (ValueError, OSError) as error:
        entry.problems.append(str(error))


def _read_evaluation(entry: CharacterEntry, layout: Layout) -> None:
    path = layout.lora_tests(entry.character_id) / RECORD_FILE
    if not path.exists():
        return
    try:
        record = load_evaluation(layout, entry.character_id)
        steps = {row.step: row.checkpoint for row in record.checkpoints}
        if 0 not in steps or not steps.get(record.chosen_step):
            raise EvaluationError(f"{path}: lacks the rows of the base model or of the chosen step.")
    except EvaluationError as error:
        entry.problems.append(_of_another_version(path) or str(error))
        return
    entry.evaluation = record
    entry.trigger = entry.trigger or record.trigger


def _of_another_version(path: UPath) -> str | None:
    """Say so if an evaluation was written by another version of the platform: it is not damaged."""
    ours = EvaluationRecord.model_fields["schema_version"].default
    try:
        theirs = json.loads(path.read_bytes()).get("schema_version", 1)
    except (OSError, ValueError, AttributeError):
        return None
    if theirs == ours:
        return None
    return (
        f"{path}: the evaluation was written by another version of yokai_assets (schema {theirs}, this one reads "
        f"{ours}), so its numbers are not shown. Materialize lora_evaluation of this character again."
    )


def _read_lora(entry: CharacterEntry, layout: Layout) -> None:
    folder = layout.lora(entry.character_id)
    lora = folder / f"{entry.character_id}.safetensors"
    if lora.exists():
        entry.lora = layout.relative(lora)
        _, entry.publication = read_sidecar(folder / f"{entry.character_id}.json")
    record = folder / f"{entry.character_id}-training.json"
    if not record.exists():
        return
    try:
        entry.training = TrainingRecord.model_validate_json(record.read_bytes())
    except (ValidationError, OSError) as error:
        first = re.sub(r"\s+", " ", str(error))[:200]
        entry.problems.append(f"{record}: cannot be read ({first}). Materialize lora_model again.")
