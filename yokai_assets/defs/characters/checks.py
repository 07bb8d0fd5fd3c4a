"""Checks of a character's LoRA, before it is published: is it good, is it this character, is it more than a copy.

Those of its images are in `dataset_checks`. What is compared with which threshold is in
`yokai_assets.evaluation.verdicts`, which `published_lora` asks too.
"""

from typing import Any

import dagster as dg
import polars as pl

from yokai_assets.defs.characters import evaluation
from yokai_assets.defs.checking import judged, partitioned_check
from yokai_assets.defs.partitions import CHARACTERS
from yokai_assets.defs.resources import SettingsResource
from yokai_assets.evaluation import verdicts


def _blocking(function: Any) -> dg.AssetChecksDefinition:
    return partitioned_check(evaluation.lora_evaluation, CHARACTERS, blocking=True)(function)


@_blocking
def lora_beats_base(settings: SettingsResource, lora_evaluation: pl.DataFrame) -> dg.AssetCheckResult:
    """Pictures by the LoRA resemble the character's held-out images more than the base model's do, by a margin."""
    return _told(verdicts.beats_base(verdicts.chosen_row(lora_evaluation), settings.load().evaluation))


@_blocking
def lora_draws_this_character(settings: SettingsResource, lora_evaluation: pl.DataFrame) -> dg.AssetCheckResult:
    """The LoRA draws this character and not another one."""
    return _told(verdicts.draws_this_character(verdicts.chosen_row(lora_evaluation), settings.load().evaluation))


@_blocking
def lora_does_not_copy(settings: SettingsResource, lora_evaluation: pl.DataFrame) -> dg.AssetCheckResult:
    """The LoRA draws new pictures of the character instead of its training images."""
    return _told(verdicts.does_not_copy(verdicts.chosen_row(lora_evaluation), settings.load().evaluation))


@_blocking
def lora_follows_prompts(settings: SettingsResource, lora_evaluation: pl.DataFrame) -> dg.AssetCheckResult:
    """The LoRA keeps what the base model makes of prompts: actions, places and views still happen."""
    return _told(verdicts.follows_prompts(verdicts.chosen_row(lora_evaluation), settings.load().evaluation))


@_blocking
def pictures_are_pictures(settings: SettingsResource, lora_evaluation: pl.DataFrame) -> dg.AssetCheckResult:
    """The chosen checkpoint draws no black, constant or undefined pictures."""
    return _told(verdicts.pictures_are_sound(verdicts.chosen_row(lora_evaluation), settings.load().evaluation))


@partitioned_check(evaluation.lora_evaluation, CHARACTERS)
def validation_loss_is_not_rising(lora_evaluation: pl.DataFrame) -> dg.AssetCheckResult:
    """At the chosen step the loss on held-out images is not above its lowest value before: a sign of overfitting."""
    return _told(verdicts.loss_is_not_rising(lora_evaluation))


def _told(verdict: verdicts.Verdict) -> dg.AssetCheckResult:
    severity = dg.AssetCheckSeverity.ERROR if verdict.is_error else dg.AssetCheckSeverity.WARN
    return judged(
        verdict.passed,
        expected=verdict.expected,
        actual=verdict.actual,
        remedy=verdict.remedy,
        severity=severity,
        **verdict.numbers,
    )


CHECKS = [
    lora_beats_base,
    lora_draws_this_character,
    lora_does_not_copy,
    lora_follows_prompts,
    pictures_are_pictures,
    validation_loss_is_not_rising,
]
