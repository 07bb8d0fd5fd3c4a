"""Assets of one character, up to its captions. Its training set is `dataset`, models and what follows are `models`."""

import dagster as dg
import polars as pl

from yokai_assets.analysis import load_vocabulary, profile_character, read_profile, write_profile
from yokai_assets.analysis.writing import profile_markdown
from yokai_assets.captioning import caption_members, overrides_fingerprint
from yokai_assets.defs.characters.inputs import load_registry, rows_of, with_pixels
from yokai_assets.defs.layers import restorer_of, told
from yokai_assets.defs.partitions import CHARACTERS
from yokai_assets.defs.policies import GPU_POOL
from yokai_assets.defs.resources import ProgressResource, SettingsResource
from yokai_assets.defs.results import SOURCE_TAG, made, picture, records, timed
from yokai_assets.embedding.model import open_image_text_model
from yokai_assets.previews.characters import character_montage
from yokai_assets.registry import Registry, member_fingerprint
from yokai_assets.storage.files import sha256_of_parts
from yokai_assets.tagging import read_with


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
    restore = restorer_of(context, settings)
    montage = character_montage(context.partition_key, registry, layout, restore=restore)
    metadata = {
        "member_count": members.height,
        "episode_count": members["episode"].n_unique(),
        "registry_version": registry.version,
        **told(restore),
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
    registry, restore = load_registry(layout), restorer_of(context, settings)
    with timed() as watch:
        profile = profile_character(
            context.partition_key, registry.people, rows.instances, rows.embeddings, layout, model,
            load_vocabulary(chosen.analysis.vocabulary), chosen.analysis, chosen.seed, characters=registry.characters,
            restore=restore,
        )  # fmt: skip
    folder = write_profile(profile, layout)
    metadata = {
        "profile": dg.MetadataValue.path(str(folder)),
        "description": dg.MetadataValue.md(profile_markdown(profile)),
        "summary": picture(folder / "summary.webp", context.partition_key),
        "frame_count": profile.screen_time_frames,
        "told_attribute_count": profile.told_attribute_count,
        "outfit_count": len(profile.outfits),
        **rows.told(context),
        **told(restore),
        "device": settings.device(),
        "seconds": watch.seconds,
    }
    return made(
        "character_profile", chosen, version=sha256_of_parts(profile.model_dump(mode="json"))[:32], metadata=metadata
    )


@dg.asset(partitions_def=CHARACTERS, deps=[character_profile], pool=GPU_POOL)
def captions(
    context: dg.AssetExecutionContext,
    settings: SettingsResource,
    progress: ProgressResource,
    character_members: pl.DataFrame,
) -> dg.MaterializeResult:
    """A caption for every member: the trigger word, then what varies; constant traits are left to the trigger."""
    chosen, layout = settings.load(), settings.layout
    profile = read_profile(layout, context.partition_key)
    model = open_image_text_model(chosen.embedding, settings.device())
    rows = rows_of(character_members, layout, model.fingerprint)
    source = overrides_fingerprint(layout, context.partition_key)
    own = rows.instances.join(character_members, on="instance_id", how="semi")
    restore = restorer_of(context, settings, progress)
    with timed() as watch:
        readings = read_with(chosen.captions, settings.device(), own, layout, progress.of(context), restore=restore)
        table = caption_members(
            profile, character_members, rows.embeddings, model, load_vocabulary(chosen.analysis.vocabulary),
            chosen.captions, chosen.series, layout=layout, readings=readings,
        )  # fmt: skip
    metadata = {
        "caption_count": table.height,
        "trigger": table["trigger"][0] if table.height else "",
        "tags_mean": float(table.select(pl.col("tags").list.len().mean()).item() or 0),
        **rows.told(context),
        **told(restore),
        "examples": records(table.select("caption").unique(maintain_order=True), limit=8),
        "device": settings.device(),
        "seconds": watch.seconds,
    }
    return made("captions", chosen, value=table, metadata=metadata, tags={SOURCE_TAG: source})


ASSETS = [character_members, character_profile, captions]
