"""Checks of one character: enough images, every caption there, a LoRA better than its base."""

import dagster as dg
import polars as pl

from yokai_assets.defs.characters import assets, models
from yokai_assets.defs.checking import judged, partitioned_check
from yokai_assets.defs.partitions import CHARACTERS
from yokai_assets.defs.resources import SettingsResource


@partitioned_check(assets.training_dataset, CHARACTERS, blocking=True)
def dataset_is_large_enough(settings: SettingsResource, training_dataset: pl.DataFrame) -> dg.AssetCheckResult:
    """Enough images to train on."""
    needed = settings.load().dataset.min_images
    counts = dict(training_dataset.group_by("split").len().iter_rows())
    train, held_out = counts.get("train", 0), counts.get("held_out", 0)
    return judged(
        train >= needed,
        expected=f"at least {needed} training images",
        actual=f"{train} training images, {held_out} held out",
        remedy="This character is too small to train. More episodes bring more images; or lower `dataset.min_images` "
        "or `dataset.min_side_px`; `dropped` of `training_dataset` says why images were left out.",
        train_image_count=train,
        held_out_image_count=held_out,
    )


@partitioned_check(assets.training_dataset, CHARACTERS)
def dataset_has_held_out_images(training_dataset: pl.DataFrame) -> dg.AssetCheckResult:
    """Images of shots that are never trained on are there to judge the LoRA by."""
    held_out = training_dataset.filter(pl.col("split") == "held_out").height
    return judged(
        held_out >= 2,
        expected="at least 2 held-out images",
        actual=f"{held_out} held out",
        remedy="The character is seen in too few shots to hold one back: its LoRA is judged by what it was trained "
        "on, which rewards memorising. More episodes help.",
        severity=dg.AssetCheckSeverity.WARN,
        held_out_image_count=held_out,
    )


@partitioned_check(assets.training_dataset, CHARACTERS, blocking=True, also_reads=("captions",))
def captions_cover_dataset(captions: pl.DataFrame, training_dataset: pl.DataFrame) -> dg.AssetCheckResult:
    """Every image has a caption with the trigger."""
    trigger = captions["trigger"][0] if captions.height else ""
    uncaptioned = training_dataset.filter(~pl.col("caption").str.starts_with(trigger) | (pl.col("caption") == ""))
    share = 1 - uncaptioned.height / max(1, training_dataset.height)
    return judged(
        bool(trigger) and uncaptioned.height == 0,
        expected="a caption that begins with the trigger word for every image",
        actual=f"{uncaptioned.height} of {training_dataset.height} images without one",
        remedy="Materialize `captions` and `training_dataset` of this character again.",
        sample=uncaptioned.select("image", "caption"),
        caption_coverage=round(share, 4),
    )


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
    dataset_is_large_enough,
    dataset_has_held_out_images,
    captions_cover_dataset,
    lora_beats_base,
    lora_draws_this_character,
]
