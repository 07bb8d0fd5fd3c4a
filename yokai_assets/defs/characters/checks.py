"""Checks of a character's LoRA, before it is published: is it good, is it this character, is it more than a copy.

Those of its images are in `dataset_checks`; what the numbers mean in `yokai_assets.evaluation`.
"""

from typing import Any

import dagster as dg
import polars as pl

from yokai_assets.defs.characters import evaluation
from yokai_assets.defs.checking import judged, partitioned_check
from yokai_assets.defs.partitions import CHARACTERS
from yokai_assets.defs.resources import SettingsResource

RISING_SHARE = 0.01
"""A loss on held-out images counts as rising from this share above its lowest value on."""


def _blocking(function: Any) -> dg.AssetChecksDefinition:
    return partitioned_check(evaluation.lora_evaluation, CHARACTERS, blocking=True)(function)


@_blocking
def lora_beats_base(settings: SettingsResource, lora_evaluation: pl.DataFrame) -> dg.AssetCheckResult:
    """Pictures by the LoRA resemble the character's held-out images more than the base model's do, by a margin."""
    best, least = _chosen(lora_evaluation), settings.load().evaluation.min_covered_share
    covered, gain_low = best["covered_share"] or 0.0, best["resemblance_gain_low"] or 0.0
    return judged(
        best["step"] > 0 and gain_low > 0 and covered >= least,
        expected=f"surely nearer to held-out images than the base model, at least {least:.0%} of the way to real ones",
        actual=f"covers {covered:.0%} of the way; cosine {best['resemblance_gain'] or 0.0:+.3f} "
        f"[{gain_low:+.3f}, {best['resemblance_gain_high'] or 0.0:+.3f}] against the base model at step {best['step']}",
        remedy="Look at `sample_grid`. More steps, a higher `learning_rate`, or cleaner training images "
        "(see `contact_sheet` of `training_dataset`) usually help.",
        covered_share=covered,
        resemblance=best["resemblance"],
        base_resemblance=lora_evaluation.filter(step=0)["resemblance"][0],
    )


@_blocking
def lora_draws_this_character(settings: SettingsResource, lora_evaluation: pl.DataFrame) -> dg.AssetCheckResult:
    """The LoRA draws this character and not another one."""
    best, least = _chosen(lora_evaluation), settings.load().evaluation.min_identification
    return judged(
        best["identification"] >= least,
        expected=f"for at least {least:.0%} of the pictures the nearest character is the right one",
        actual=f"{best['identification']:.0%} of the pictures",
        remedy="Look at `sample_grid`; train longer, or look in `character_registry` for two ids of one character "
        "(`yokai characters merge`).",
        identification=best["identification"],
    )


@_blocking
def lora_does_not_copy(settings: SettingsResource, lora_evaluation: pl.DataFrame) -> dg.AssetCheckResult:
    """The LoRA draws new pictures of the character instead of its training images."""
    best, most = _chosen(lora_evaluation), settings.load().evaluation.max_memorised_share
    return judged(
        best["memorised_share"] <= most,
        expected=f"at most {most:.0%} of the pictures nearer to a training image than any held-out image is",
        actual=f"{best['memorised_share']:.0%} of the pictures",
        remedy="Look at `closest_pairs`. Fewer steps, a lower rank, or more and more various training images help.",
        memorised_share=best["memorised_share"],
    )


@_blocking
def lora_follows_prompts(settings: SettingsResource, lora_evaluation: pl.DataFrame) -> dg.AssetCheckResult:
    """The LoRA keeps what the base model makes of prompts: actions, places and views still happen."""
    best, most = _chosen(lora_evaluation), settings.load().evaluation.max_prompt_loss
    loss = best["prompt_loss"]
    told = "cannot be told: the base model does not surely follow the prompts itself" if loss is None else f"{loss:.0%}"
    return judged(
        loss is None or loss <= most,
        expected=f"at most {most:.0%} of the base model's prompt-following lost",
        actual=f"{told} ({best['prompt_following'] or 0.0:.3f})",
        remedy="Look at `sample_grid`: do pictures change with their prompt? Fewer steps, a lower `learning_rate`, or "
        "captions that name what varies (see `contact_sheet` of `training_dataset`) help.",
        **({} if loss is None else {"prompt_loss": loss}),
    )


@_blocking
def pictures_are_pictures(settings: SettingsResource, lora_evaluation: pl.DataFrame) -> dg.AssetCheckResult:
    """The chosen checkpoint draws no black, constant or undefined pictures."""
    best, most = _chosen(lora_evaluation), settings.load().evaluation.max_defect_share
    share = best["defect_count"] / best["image_count"]
    return judged(
        best["defect_count"] == 0,
        expected="no picture black, constant or not a number",
        actual=f"{best['defect_count']} of {best['image_count']}",
        remedy="`defect` in `evaluation.json` names them. Not a number comes from half precision: set "
        "`training.mixed_precision` to bf16 or no, or use a VAE that is made for fp16.",
        severity=dg.AssetCheckSeverity.ERROR if share > most else dg.AssetCheckSeverity.WARN,
        defect_count=best["defect_count"],
    )


@partitioned_check(evaluation.lora_evaluation, CHARACTERS)
def validation_loss_is_not_rising(lora_evaluation: pl.DataFrame) -> dg.AssetCheckResult:
    """At the chosen step the loss on held-out images is not above its lowest value before: a sign of overfitting."""
    best = _chosen(lora_evaluation)
    before = lora_evaluation.filter(pl.col("step") <= best["step"]).drop_nulls("validation_loss")
    lowest = before.sort("validation_loss", "step").head(1).to_dicts()
    now = best["validation_loss"]
    if now is None or not lowest:
        return judged(True, expected="a loss on held-out images", actual="nothing was held out to tell", remedy="")
    rise = now / lowest[0]["validation_loss"] - 1
    return judged(
        rise <= RISING_SHARE,
        expected=f"at most {RISING_SHARE:.0%} above the lowest before",
        actual=f"{now:.4f} at step {best['step']}, {rise:+.1%} against {lowest[0]['validation_loss']:.4f} "
        f"at step {lowest[0]['step']}",
        remedy="Look at `loss_curve` of `lora_model` and `closest_pairs`; fewer steps or more images help.",
        severity=dg.AssetCheckSeverity.WARN,
        rise=rise,
    )


def _chosen(table: pl.DataFrame) -> dict[str, Any]:
    return table.filter("is_chosen").to_dicts()[0]


CHECKS = [
    lora_beats_base,
    lora_draws_this_character,
    lora_does_not_copy,
    lora_follows_prompts,
    pictures_are_pictures,
    validation_loss_is_not_rising,
]
