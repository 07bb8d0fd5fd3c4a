"""Checks of a character's LoRA: better than its base, and of this character. Those of its images: `dataset_checks`."""

import dagster as dg
import polars as pl

from yokai_assets.defs.characters import models
from yokai_assets.defs.checking import judged, partitioned_check
from yokai_assets.defs.partitions import CHARACTERS


@partitioned_check(
    models.lora_evaluation, CHARACTERS, blocking=True)  # fmt: skip
def lora_beats_base(lora_evaluation: pl.DataFrame) -> dg.AssetCheckResult:
    """Pictures by the LoRA resemble the character's held-out images more than the base model's do."""
    base = lora_evaluation.filter(pl.col("step") == 0).to_dicts()[0]
    best = lora_evaluation.filter(pl.col("is_chosen")).to_dicts()[0]
    return judged(
        best["step"] > 0 and best["resemblance_low"] > base["resemblance"],
        expected=f"resemblance surely above the base model's {base['resemblance']:.3f}",
        actual="{resemblance:.3f} [{resemblance_low:.3f}, {resemblance_high:.3f}] at step {step}".format(**best),
        remedy="Look at `sample_grid`. More steps, a higher `learning_rate`, or cleaner training images "
        "(see `contact_sheet` of `training_dataset`) usually help.",
        resemblance=best["resemblance"],
        base_resemblance=base["resemblance"],
        covered_share=best["covered_share"] if best["covered_share"] is not None else 0.0,
    )


@partitioned_check(models.lora_evaluation, CHARACTERS)
def lora_draws_this_character(lora_evaluation: pl.DataFrame) -> dg.AssetCheckResult:
    """The LoRA draws this character and not another one."""
    best = lora_evaluation.filter(pl.col("is_chosen")).to_dicts()[0]
    return judged(
        best["identification"] >= 0.5,
        expected="for at least half of the pictures the nearest character is the right one",
        actual=f"{best['identification']:.0%} of the pictures",
        remedy="Look at `sample_grid`; train longer, or look in `character_registry` for two ids of one character.",
        severity=dg.AssetCheckSeverity.WARN,
        identification=best["identification"],
    )


CHECKS = [
    lora_beats_base,
    lora_draws_this_character,
]
