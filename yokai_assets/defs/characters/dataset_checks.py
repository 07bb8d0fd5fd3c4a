"""Checks of a character's training set and of its captions: what would spoil a LoRA before it is trained."""

import dagster as dg
import polars as pl

from yokai_assets.captioning.tokens import TOKEN_LIMIT, token_ids
from yokai_assets.captioning.trigger import trigger_problems
from yokai_assets.datasets.selection import near_duplicate_pairs
from yokai_assets.defs.characters import assets, dataset
from yokai_assets.defs.characters.inputs import load_registry, rows_of
from yokai_assets.defs.checking import judged, partitioned_check
from yokai_assets.defs.partitions import CHARACTERS
from yokai_assets.defs.resources import SettingsResource

DOUBTFUL_MARGIN_SHARE = 0.25
"""Identity margin, as a share of the set's median one, below which an image is doubtful: so near another character."""

MAX_DOUBTFUL_SHARE = 0.1
MAX_SHOT_SHARE = 0.5
MIN_EPISODE_SHARE = 0.5


@partitioned_check(assets.captions, CHARACTERS)
def trigger_is_its_own(context: dg.AssetCheckExecutionContext, settings: SettingsResource) -> dg.AssetCheckResult:
    """No other character has the trigger word, and the text encoder has no meaning for it."""
    chosen, layout = settings.load(), settings.layout
    ids = load_registry(layout).characters.filter(pl.col("member_count") > 0)["character_id"].to_list()
    trigger, problems = trigger_problems(context.partition_key, ids, chosen.series, chosen.captions, layout)
    return judged(
        not problems,
        expected="a word of several tokens that begins no other character's trigger",
        actual=f"{trigger}: {'; '.join(problems)}" if problems else f"{trigger}, {len(token_ids(trigger))} tokens",
        remedy="Write another `trigger` into the character's captions.toml (docs/captions.md).",
        severity=dg.AssetCheckSeverity.WARN,
        token_count=len(token_ids(trigger)),
    )


@partitioned_check(dataset.training_dataset, CHARACTERS, blocking=True)
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


@partitioned_check(dataset.training_dataset, CHARACTERS)
def dataset_has_held_out_images(training_dataset: pl.DataFrame) -> dg.AssetCheckResult:
    """Images of shots that are never trained on are there to judge the LoRA by."""
    train, held_out = (training_dataset.filter(split=split) for split in ("train", "held_out"))
    shared = train.join(held_out, on=["episode", "shot"], how="semi").height
    return judged(
        held_out.height >= 2 and not shared,
        expected="at least 2 held-out images, of shots that are not trained on",
        actual=f"{held_out.height} held out; {shared} training images are of their shots",
        remedy="The character is seen in too few shots to hold one back: what its LoRA is judged by is like what it "
        "was trained on, which rewards memorising. More episodes help.",
        severity=dg.AssetCheckSeverity.WARN,
        held_out_image_count=held_out.height,
        shared_shot_image_count=shared,
    )


@partitioned_check(dataset.training_dataset, CHARACTERS, blocking=True, also_reads=("captions",))
def captions_cover_dataset(captions: pl.DataFrame, training_dataset: pl.DataFrame) -> dg.AssetCheckResult:
    """Every image has a caption, and where no person rewrote it, with the trigger."""
    trigger = captions["trigger"][0] if captions.height else ""
    uncaptioned = training_dataset.filter(~pl.col("caption").str.contains(trigger, literal=True))
    share = 1 - uncaptioned.height / max(1, training_dataset.height)
    return judged(
        bool(trigger) and uncaptioned.height == 0,
        expected="a caption with the trigger word for every image",
        actual=f"{uncaptioned.height} of {training_dataset.height} images without one",
        remedy="Captions that were written by hand need the trigger word, too: add it in the `.txt`. Otherwise "
        "materialize `captions` and `training_dataset` of this character again.",
        sample=uncaptioned.select("image", "caption"),
        caption_coverage=round(share, 4),
    )


@partitioned_check(dataset.training_dataset, CHARACTERS)
def captions_fit_the_text_encoder(training_dataset: pl.DataFrame) -> dg.AssetCheckResult:
    """No caption is longer than what the text encoder reads."""
    counts = training_dataset.with_columns(
        tokens=pl.Series([len(token_ids(caption)) for caption in training_dataset["caption"]], dtype=pl.Int32)
    )
    long = counts.filter(pl.col("tokens") > TOKEN_LIMIT).sort("tokens", descending=True)
    return judged(
        long.is_empty(),
        expected=f"at most {TOKEN_LIMIT} tokens",
        actual=f"{long.height} of {counts.height} captions are longer",
        remedy="What is beyond is not read. Lower `captions.max_tags`, or shorten these captions.",
        severity=dg.AssetCheckSeverity.WARN,
        sample=long.select("image", "tokens", "caption"),
        longest_tokens=int(counts.select(pl.col("tokens").max().fill_null(0)).item()),
    )


@partitioned_check(dataset.training_dataset, CHARACTERS, also_reads=("character_members",))
def dataset_has_no_near_duplicates(
    settings: SettingsResource, character_members: pl.DataFrame, training_dataset: pl.DataFrame
) -> dg.AssetCheckResult:
    """No two images are nearly the same, least of all one trained on and one held out."""
    vectors = rows_of(character_members, settings.layout).embeddings.select("instance_id", "vector")
    rows = training_dataset.join(vectors, on="instance_id", how="inner", maintain_order="left")
    pairs = near_duplicate_pairs(rows)
    torn = pairs.filter(pl.col("split") != pl.col("other_split")).height
    return judged(
        pairs.is_empty(),
        expected="no pair of images that hardly differ",
        actual=f"{pairs.height} pairs, {torn} of them on both sides of the split",
        remedy="Materialize `training_dataset` again. If they come back, the embedding model does not tell them apart.",
        severity=dg.AssetCheckSeverity.WARN,
        sample=pairs,
        pair_count=pairs.height,
    )


@partitioned_check(dataset.training_dataset, CHARACTERS)
def dataset_shows_one_character(training_dataset: pl.DataFrame) -> dg.AssetCheckResult:
    """Few images are nearly as much like another character as like this one."""
    margins = training_dataset.drop_nulls("identity_margin")
    usual = float(margins.select(pl.col("identity_margin").median().fill_null(0.0)).item())
    doubtful = margins.filter(pl.col("identity_margin") < DOUBTFUL_MARGIN_SHARE * usual).sort("identity_margin")
    share = doubtful.height / max(1, margins.height)
    return judged(
        share <= MAX_DOUBTFUL_SHARE,
        expected=f"at most {MAX_DOUBTFUL_SHARE:.0%} with under {DOUBTFUL_MARGIN_SHARE:.0%} of the usual margin",
        actual=f"{doubtful.height} of {margins.height} images",
        remedy="Look at these images in `contact_sheet`. Delete strangers from the folder (they stay out), or "
        "`yokai characters exclude ID INSTANCE...`; two characters in one: `yokai characters split ID --into 2`.",
        severity=dg.AssetCheckSeverity.WARN,
        sample=doubtful.select("image", "identity_margin"),
        doubtful_share=round(share, 4),
    )


@partitioned_check(dataset.training_dataset, CHARACTERS, also_reads=("character_members",))
def dataset_covers_the_character(
    character_members: pl.DataFrame, training_dataset: pl.DataFrame
) -> dg.AssetCheckResult:
    """Images come from many episodes and shots, so that no scene is learnt as the character."""
    count = max(1, training_dataset.height)
    there, shown = character_members["episode"].n_unique(), training_dataset["episode"].n_unique()
    wanted = min(there, training_dataset.height)
    shots = training_dataset.group_by("episode", "shot").len().sort("len", descending=True)
    of_one_shot = (shots["len"][0] if shots.height else 0) / count
    views = dict(training_dataset.drop_nulls("view")["view"].value_counts(sort=True).iter_rows())
    return judged(
        shown >= MIN_EPISODE_SHARE * wanted and of_one_shot <= MAX_SHOT_SHARE,
        expected=f"at least {MIN_EPISODE_SHARE:.0%} of {wanted} possible episodes, and at most {MAX_SHOT_SHARE:.0%} "
        "of the images from one shot",
        actual=f"{shown} of {there} episodes, {of_one_shot:.0%} from one shot; views: {views or 'not told'}",
        remedy="Look at `coverage` and `rejected`: what keeps the other episodes out? Usually size "
        "(`dataset.min_side_px`) or the frame's edge.",
        severity=dg.AssetCheckSeverity.WARN,
        episode_count=shown,
        largest_shot_share=round(of_one_shot, 4),
    )


CHECKS = [
    trigger_is_its_own,
    dataset_is_large_enough,
    dataset_has_held_out_images,
    captions_cover_dataset,
    captions_fit_the_text_encoder,
    dataset_has_no_near_duplicates,
    dataset_shows_one_character,
    dataset_covers_the_character,
]
