"""The grid of pictures that every checkpoint draws: prompts x seeds, and which checkpoints take part.

Planning only; nothing here loads a model. The same grid goes to the base model and to every checkpoint, so
that their pictures can be compared one by one.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from yokai_assets.settings.model import EvaluationSettings
from yokai_assets.storage.layout import Layout
from yokai_assets.training.files import TrainingFiles
from yokai_assets.training.record import Checkpoint, TrainingRecordError, finished_checkpoints
from yokai_assets.training.safetensors_header import LoraFileError, read_header

TRIGGER_PLACE = "{trigger}"


class EvaluationError(RuntimeError):
    """A character cannot be evaluated; the message names what is missing and the remedy."""


@dataclass(frozen=True, slots=True)
class GridCell:
    """One picture of the grid.

    Attributes:
        prompt_index: Position of the prompt in the settings.
        seed: Seed of the initial latents; the same seeds serve every prompt and every checkpoint.
        prompt: Text the picture is drawn from.
        subject: The prompt without the trigger word, which a text encoder that was not trained on it can
            judge; empty where nothing remains.
        has_trigger: False for control prompts: their pictures must not change, and are not judged for
            likeness.
    """

    prompt_index: int
    seed: int
    prompt: str
    subject: str
    has_trigger: bool


def prompt_grid(settings: EvaluationSettings, trigger: str, seed: int) -> list[GridCell]:
    """Return the cells of the grid, prompt by prompt.

    Args:
        settings: Prompts with `{trigger}`; other braces are left as they are.
        trigger: The character's trigger word.
        seed: First seed; the others follow it.

    Raises:
        EvaluationError: No prompt holds `{trigger}`.
    """
    if not any(TRIGGER_PLACE in prompt for prompt in settings.prompts):
        raise EvaluationError(
            "evaluation.prompts: no prompt contains `{trigger}`, so no picture would show the character. "
            'Add one, for example "{trigger}, portrait".'
        )
    return [
        GridCell(
            prompt_index=index,
            seed=seed + offset,
            prompt=template.replace(TRIGGER_PLACE, trigger),
            subject=without_trigger(template),
            has_trigger=TRIGGER_PLACE in template,
        )
        for index, template in enumerate(settings.prompts)
        for offset in range(settings.images_per_prompt)
    ]


def without_trigger(template: str) -> str:
    """Return a prompt template's text without `{trigger}` and the commas it leaves behind."""
    parts = (" ".join(part.split()) for part in template.replace(TRIGGER_PLACE, "").split(","))
    return ", ".join(part for part in parts if part)


def find_checkpoints(character_id: str, layout: Layout) -> list[Checkpoint]:
    """Return the checkpoints of a character's last finished training, in order of steps.

    Only files that the training's record names count: others are of an unfinished or of an earlier training.

    Raises:
        EvaluationError: The record is damaged.
    """
    try:
        return finished_checkpoints(TrainingFiles.of_character(layout, character_id))
    except TrainingRecordError as error:
        raise EvaluationError(str(error)) from error


def trained_images(checkpoints: Sequence[Checkpoint]) -> set[str]:
    """Return the instance_ids of the images that a LoRA was trained on, by its own header; empty where none says it.

    The dataset on disk may have been made anew since, with other images held out.
    """
    for checkpoint in reversed(checkpoints):
        try:
            return set(json.loads(read_header(checkpoint.path).metadata["yokai_training_images"]))
        except (LoraFileError, KeyError, ValueError, TypeError):
            continue
    return set()


def select_checkpoints(checkpoints: Sequence[Checkpoint], max_count: int | None) -> list[Checkpoint]:
    """Return at most `max_count` checkpoints (None: all), evenly spread, the last one always."""
    if max_count is None:
        return list(checkpoints)
    if max_count < 1:
        raise ValueError(f"max_count must be at least 1, not {max_count}")
    count = len(checkpoints)
    if count <= max_count:
        return list(checkpoints)
    return [checkpoints[-(-count * part // max_count) - 1] for part in range(1, max_count + 1)]
