"""Assets of one character, up to its training set. Models and what follows are in `models`."""

import dagster as dg
import polars as pl
from upath import UPath

from yokai_assets.analysis import load_vocabulary, profile_character, read_profile, write_profile
from yokai_assets.analysis.writing import profile_markdown
from yokai_assets.captioning import caption_members
from yokai_assets.datasets import build_dataset
from yokai_assets.defs.characters.inputs import frames_of, load_registry, rows_of, with_pixels
from yokai_assets.defs.partitions import CHARACTERS
from yokai_assets.defs.resources import ProgressResource, SettingsResource
from yokai_assets.defs.results import made, picture, records, timed
from yokai_assets.embedding.model import open_image_text_model
from yokai_assets.previews.characters import character_montage
from yokai_assets.previews.stages import files_sheet
from yokai_assets.registry import Registry, member_fingerprint
from yokai_assets.storage.files import folder_bytes, sha256_of_parts


@dg.asset(partitions_def=CHARACTERS, deps=[dg.AssetDep("character_registry")])
def character_members(context: dg.AssetExecutionContext, settings: SettingsResource) -> dg.MaterializeResult:
    """The instances that belong to the character.

    Thin on purpose: its data version is a hash of the members' ids and pixels, so a new clustering that leaves the
    character as it was makes nothing after it stale.
    """
    chosen, layout = settings.load(), settings.layout
    registry = load_registry(layout)
    members = registry.members_of(context.partition_key)
    if members.is_empty():
        raise dg.Failure(_why_no_members(registry, context.partition_key), allow_retries=False)
    montage = character_montage(context.partition_key, registry, layout)
    metadata = {
        "member_count": members.height,
        "episode_count": members["episode"].n_unique(),
        "registry_version": registry.version,
        **({"contact_sheet": picture(montage, context.partition_key)} if montage else {}),
    }
    version = member_fingerprint(with_pixels(members, layout))
    return made("character_members", chosen, value=members, version=version, metadata=metadata)


def _why_no_members(registry: Registry, character: str) -> str:
    known = registry.characters.filter(pl.col("character_id") == character)
    if known.is_empty():
        return f"{character}: the registry knows no such character. Its characters are in `character_registry`."
    state, other, reason = known.select("state", "other_id", "reason").row(0)
    return (
        f"{character} is {state}{f' {other}' if other else ''} ({reason}), so it has no members. What was made for it "
        "before is still there. It comes back under the same id if a later clustering or decision gives it members."
    )


@dg.asset(partitions_def=CHARACTERS)
def character_profile(
    context: dg.AssetExecutionContext, settings: SettingsResource, character_members: pl.DataFrame
) -> dg.MaterializeResult:
    """What the character looks like and where it appears: attributes, palette, sizes, screen time, company."""
    chosen, layout = settings.load(), settings.layout
    model = open_image_text_model(chosen.embedding, settings.device())
    rows = rows_of(character_members, layout, model.fingerprint)
    with timed() as watch:
        profile = profile_character(
            context.partition_key, load_registry(layout).people, rows.instances, rows.embeddings, layout, model,
            load_vocabulary(chosen.analysis.vocabulary), chosen.analysis, chosen.seed,
        )  # fmt: skip
    folder = write_profile(profile, layout)
    metadata = {
        "profile": dg.MetadataValue.path(str(folder)),
        "description": dg.MetadataValue.md(profile_markdown(profile)),
        "summary": picture(folder / "summary.webp", context.partition_key),
        "frame_count": profile.screen_time_frames,
        "told_attribute_count": profile.told_attribute_count,
        **rows.told(context),
        "seconds": watch.seconds,
    }
    return made(
        "character_profile", chosen, version=sha256_of_parts(profile.model_dump(mode="json"))[:32], metadata=metadata
    )


@dg.asset(partitions_def=CHARACTERS, deps=[character_profile])
def captions(
    context: dg.AssetExecutionContext, settings: SettingsResource, character_members: pl.DataFrame
) -> dg.MaterializeResult:
    """A caption for every member: the trigger word, then what varies; constant traits are left to the trigger."""
    chosen, layout = settings.load(), settings.layout
    profile = read_profile(layout, context.partition_key)
    model = open_image_text_model(chosen.embedding, settings.device())
    rows = rows_of(character_members, layout, model.fingerprint)
    with timed() as watch:
        table = caption_members(
            profile, character_members, rows.embeddings, model,
            load_vocabulary(chosen.analysis.vocabulary), chosen.captions, chosen.series, layout=layout,
        )  # fmt: skip
    metadata = {
        "caption_count": table.height,
        "trigger": table["trigger"][0] if table.height else "",
        "tags_mean": float(table.select(pl.col("tags").list.len().mean()).item() or 0),
        **rows.told(context),
        "examples": records(table.select("caption").unique(maintain_order=True), limit=8),
        "seconds": watch.seconds,
    }
    return made("captions", chosen, value=table, metadata=metadata)


@dg.asset(partitions_def=CHARACTERS)
def training_dataset(
    context: dg.AssetExecutionContext,
    settings: SettingsResource,
    progress: ProgressResource,
    character_members: pl.DataFrame,
    captions: pl.DataFrame,
) -> dg.MaterializeResult:
    """The character's training images, captions and masks on disk, with a held-out part that is never trained on.

    A selection: quality first, then no near-duplicates, then a diverse subset; held out by whole shots.
    """
    chosen, layout = settings.load(), settings.layout
    rows = rows_of(character_members, layout)
    with timed() as watch:
        result = build_dataset(
            context.partition_key, character_members, rows.instances, frames_of(rows.instances, layout),
            rows.embeddings, captions, UPath(chosen.frames_source), layout, chosen.dataset, chosen.seed,
            resolution_px=chosen.training.resolution_px, progress=progress.of(context),
        )  # fmt: skip
    counts = dict(result.table.group_by("split").len().iter_rows())
    sheet = files_sheet(layout, result.table.sort("split", "image")["image"].head(40).to_list())
    metadata = {
        "train_image_count": counts.get("train", 0),
        "held_out_image_count": counts.get("held_out", 0),
        "dropped": dg.MetadataValue.json(result.dropped),
        "dropped_count": sum(result.dropped.values()),
        "notes": dg.MetadataValue.json(list(result.notes)),
        **rows.told(context),
        "folder": dg.MetadataValue.path(str(result.folder)),
        "dataset_bytes": folder_bytes(result.folder),
        "seconds": watch.seconds,
        **({"contact_sheet": picture(sheet, "training images, held-out ones first")} if sheet else {}),
    }
    return made("training_dataset", chosen, value=result.table, metadata=metadata)


ASSETS = [character_members, character_profile, captions, training_dataset]
