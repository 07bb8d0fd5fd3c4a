"""`pipeline_results.json`: the outcome of the whole road for programs, with its JSON schema beside it.

A summary of `GalleryData`; the tables hold the details. `processed` counts characters with a published LoRA, as the
pipeline that this platform replaces counted them. The schema ships as `pipeline_results.schema.json`; after a change
here, `python -m yokai_assets.gallery.results` writes it anew (a test compares), and a change that breaks readers raises
`schema_version`.
"""

import json
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, Field
from upath import UPath

from yokai_assets.evaluation.record import Measure
from yokai_assets.gallery.characters import CharacterEntry, Status
from yokai_assets.gallery.data import GalleryData
from yokai_assets.storage.files import write_text
from yokai_assets.storage.layout import Layout

RESULTS_FILE = "pipeline_results.json"
SCHEMA_FILE = "pipeline_results.schema.json"


class _Result(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StageResult(_Result):
    """What one stage has made."""

    scope: Literal["episodes", "series", "characters"] = Field(description="What it is done for.")
    partitions: int = Field(description="Episodes or characters that it is done for; 1 for the series.")
    rows: int = Field(description="Rows of its table; 0 for stages without one.")
    newest_at: datetime | None = Field(description="When the newest part was written; null where it has not run.")
    bytes: int = Field(description="Bytes on disk: tables, pictures, models.")
    seconds: float | None = Field(
        description="Time of its finished runs, repeats included; null where it is not recorded."
    )
    gpu_seconds: float | None = Field(description="Those of the seconds that ran on a GPU.")


class FrameCounts(_Result):
    """Frames of the series."""

    episodes: int
    frames: int
    unique: int = Field(description="Frames that are no near-duplicate of an earlier one.")
    unreadable: int
    blank: int = Field(description="Frames that show no whole picture: black, blank, faded, titles and credits.")
    instances: int = Field(description="Character instances cut out.")


class ScoreResult(_Result):
    """Scores of the chosen checkpoint; `_low` and `_high` are ends of 95 % bootstrap intervals."""

    step: int
    resemblance: float = Field(description="Cosine of drawn to held-out images.")
    resemblance_low: float
    resemblance_high: float
    base_resemblance: float = Field(description="The same for the base model: the lower yardstick.")
    real_to_real: float = Field(description="Of real images to each other: the upper yardstick.")
    covered_share: float | None = Field(description="Share of the distance base to real that is covered (1: all).")
    covered_share_low: float | None
    covered_share_high: float | None
    identification: float = Field(description="Share of drawn images whose nearest character is the right one.")
    prompt_following: float | None
    prompt_loss: float | None = Field(description="Share of the base model's prompt-following that is lost.")
    bleeding: float | None = Field(description="Change of pictures of prompts without the trigger word.")
    diversity: float
    memorised_share: float = Field(description="Share of drawn images that are near-copies of training images.")
    validation_loss: float | None
    suggested_weight: float = Field(description="Weight with the best score.")
    score: float | None
    reason: str = Field(description="Why this checkpoint, in words.")


class OtherLoraResult(_Result):
    """A character that another one's LoRA resembles as much as its own."""

    character_id: str
    own_resemblance: float
    rival: str = Field(description="Whose LoRA.")
    rival_resemblance: float


class CharacterResult(_Result):
    """One character."""

    id: str
    name: str | None = Field(description="What people call it.")
    status: Status
    reason: str = Field(description="The status in words; for skipped and failed ones why.")
    image_count: int = Field(description="Instances found.")
    episode_count: int
    train_image_count: int
    held_out_image_count: int
    trigger: str | None
    lora: str | None = Field(description="Published LoRA, relative to the data root.")
    model_card: str | None = Field(description="Model card of the published LoRA, relative to the data root.")
    lora_step: int | None = Field(description="Training step of the published LoRA.")
    published_at: str | None
    scores: ScoreResult | None
    training_seconds: float | None
    evaluation_seconds: float | None


class FailureResult(_Result):
    """An open failure."""

    at: datetime
    step: str
    partition: str | None
    reason: str


class PipelineResults(_Result):
    """The outcome of the road so far."""

    schema_version: Literal[2] = 2
    series: str
    generated_at: datetime
    processed: int = Field(description="Characters with a published LoRA.")
    pending: int = Field(description="Characters on their way.")
    skipped: int = Field(description="Characters with too few images.")
    failed: int = Field(description="Characters stopped by a failure before publication.")
    doubtful: int = Field(description="Groups in doubt: not trained unless accepted.")
    dismissed: int = Field(description="Groups that are no characters.")
    merged: int = Field(description="Characters that are part of another one now.")
    retired: int = Field(description="Characters that are not found any more, or not wanted.")
    frames: FrameCounts
    stages: dict[str, StageResult]
    storage_bytes: dict[str, int] = Field(description="Bytes by stage, and of what series share.")
    taken_for_others: list[OtherLoraResult] = Field(
        description="Characters that another one's LoRA resembles as much as their own, by `lora_comparison`."
    )
    characters: list[CharacterResult]
    failures: list[FailureResult]
    problems: list[str] = Field(description="Files that could not be read.")

    @property
    def gone(self) -> int:
        """Characters of the registry that are nobody of their own any more."""
        return self.dismissed + self.merged + self.retired


def pipeline_results(data: GalleryData) -> PipelineResults:
    """Return the results of what was read."""
    return PipelineResults(
        series=data.series,
        generated_at=data.read_at,
        processed=len(data.with_status("published")),
        pending=len(data.with_status("waiting", "dataset", "trained", "evaluated")),
        skipped=len(data.with_status("too_small")),
        failed=len(data.with_status("failed")),
        doubtful=len(data.with_status("doubtful")),
        dismissed=len(data.with_status("dismissed")),
        merged=len(data.with_status("merged")),
        retired=len(data.with_status("retired")),
        frames=_frame_counts(data.episodes),
        stages={
            stage.name: StageResult(
                scope=stage.scope,
                partitions=stage.partition_count,
                rows=stage.row_count,
                newest_at=stage.newest_at,
                bytes=stage.size_bytes,
                seconds=round(stage.time.seconds, 3) if stage.time else None,
                gpu_seconds=round(stage.time.gpu_seconds, 3) if stage.time else None,
            )
            for stage in data.stages
        },
        storage_bytes=data.storage_bytes,
        taken_for_others=[OtherLoraResult(**row) for row in data.taken_for_others.to_dicts()],
        characters=[_character(entry) for entry in data.characters],
        failures=[
            FailureResult(**failure.model_dump(include=set(FailureResult.model_fields))) for failure in data.failures
        ],
        problems=[*data.problems, *(problem for entry in data.characters for problem in entry.problems)],
    )


def write_pipeline_results(layout: Layout, data: GalleryData) -> UPath:
    """Write `pipeline_results.json` and its schema under `outputs/<series>/pipeline/`; return the former."""
    path = layout.pipeline / RESULTS_FILE
    write_text(layout.pipeline / SCHEMA_FILE, files("yokai_assets.gallery").joinpath(SCHEMA_FILE).read_text("utf-8"))
    write_text(path, pipeline_results(data).model_dump_json(indent=2) + "\n")
    return path


def pipeline_results_schema() -> dict[str, object]:
    """Return the JSON schema of `pipeline_results.json`, as the models here have it."""
    schema = PipelineResults.model_json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _frame_counts(episodes: pl.DataFrame) -> FrameCounts:
    sums = {name: int(episodes[name].sum()) for name in episodes.columns if name != "episode"}
    return FrameCounts(
        episodes=episodes.height,
        frames=sums["frame_count"],
        unique=sums["unique_count"],
        unreadable=sums["unreadable_count"],
        blank=sums["blank_count"],
        instances=sums["instance_count"],
    )


def _character(entry: CharacterEntry) -> CharacterResult:
    counts = entry.image_counts
    return CharacterResult(
        id=entry.character_id,
        name=entry.name,
        status=entry.status,
        reason=entry.status_text,
        image_count=entry.member_count,
        episode_count=entry.episode_count,
        train_image_count=counts["train"],
        held_out_image_count=counts["held_out"],
        trigger=entry.trigger,
        lora=entry.lora,
        model_card=entry.lora.rpartition("/")[0] + "/README.md" if entry.lora else None,
        lora_step=entry.publication.step if entry.publication else None,
        published_at=entry.publication.published_at if entry.publication else None,
        scores=_scores(entry),
        training_seconds=entry.training.seconds if entry.training else None,
        evaluation_seconds=entry.evaluation.seconds if entry.evaluation else None,
    )


def _scores(entry: CharacterEntry) -> ScoreResult | None:
    record = entry.judgement
    if record is None:
        return None
    chosen = record.chosen
    return ScoreResult(
        step=chosen.step,
        resemblance=chosen.resemblance.mean,
        resemblance_low=chosen.resemblance.low,
        resemblance_high=chosen.resemblance.high,
        base_resemblance=record.base.resemblance.mean,
        real_to_real=record.real_to_real.mean,
        covered_share=chosen.covered_share,
        covered_share_low=chosen.covered.low if chosen.covered else None,
        covered_share_high=chosen.covered.high if chosen.covered else None,
        identification=chosen.identification.mean,
        prompt_following=_mean(chosen.prompt_following),
        prompt_loss=_mean(chosen.prompt_loss),
        bleeding=_mean(chosen.bleeding),
        diversity=chosen.diversity.mean,
        memorised_share=chosen.memorised_share.mean,
        validation_loss=chosen.validation_loss,
        suggested_weight=record.suggested_weight,
        score=chosen.score,
        reason=record.reason,
    )


def _mean(measure: Measure | None) -> float | None:
    return measure.mean if measure else None


if __name__ == "__main__":
    text = json.dumps(pipeline_results_schema(), indent=2) + "\n"
    Path(__file__).with_name(SCHEMA_FILE).write_text(text, encoding="utf-8")
