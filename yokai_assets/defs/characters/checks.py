"""Checks of a character's LoRA, before it is published: is it good, is it this character, is it more than a copy.

Those of its images are in `dataset_checks`. What is compared with which threshold is in
`yokai_assets.evaluation.verdicts`, which `published_lora` asks too.
"""

import dagster as dg
import polars as pl

from yokai_assets.defs.characters import evaluation
from yokai_assets.defs.checking import judged, partitioned_check
from yokai_assets.defs.partitions import CHARACTERS
from yokai_assets.defs.resources import SettingsResource
from yokai_assets.evaluation import verdicts


def _blocking_check(name: str, judge: verdicts.Judge) -> dg.AssetChecksDefinition:
    """Return the check of a verdict, under the verdict's name and description."""

    def check(settings: SettingsResource, lora_evaluation: pl.DataFrame) -> dg.AssetCheckResult:
        return _told(judge(verdicts.chosen_row(lora_evaluation), settings.load().evaluation))

    check.__name__, check.__doc__ = name, judge.__doc__
    return partitioned_check(evaluation.lora_evaluation, CHARACTERS, blocking=True)(check)


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
    *(_blocking_check(name, judge) for name, judge in verdicts.BLOCKING.items()),
    validation_loss_is_not_rising,
]
