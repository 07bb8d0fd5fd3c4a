"""Assets of one episode. The work itself is in `yokai_assets.frames`, `.segmentation` and `.embedding`."""

import dagster as dg
import polars as pl
from upath import UPath

from yokai_assets.defs.layers import restorer_of, told
from yokai_assets.defs.partitions import EPISODES
from yokai_assets.defs.policies import GPU_POOL
from yokai_assets.defs.resources import ProgressResource, SettingsResource
from yokai_assets.defs.results import SOURCE_TAG, made, picture, records, table_version, timed
from yokai_assets.embedding.instances import embed_instances
from yokai_assets.embedding.model import open_image_text_model
from yokai_assets.frames.episodes import find_episode, source_fingerprint
from yokai_assets.frames.scan import scan_episode
from yokai_assets.previews.stages import files_sheet, frames_sheet, instances_sheet
from yokai_assets.retention.ledger import LayerKind, forget_removal
from yokai_assets.retention.room import require_room
from yokai_assets.segmentation.backgrounds import build_backgrounds, plate_frames, remove_stale_plates
from yokai_assets.segmentation.layers import remove_stale_cutouts, segment_episode
from yokai_assets.segmentation.matte import open_matte
from yokai_assets.storage.files import folder_bytes
from yokai_assets.storage.parquet import read_earlier_table
from yokai_assets.tables import BACKGROUNDS, EMBEDDINGS, FRAMES, INSTANCES


@dg.asset(partitions_def=EPISODES)
def frames(
    context: dg.AssetExecutionContext, settings: SettingsResource, progress: ProgressResource
) -> dg.MaterializeResult:
    """Every frame of the episode: readable or not, its hash, brightness, shot, and which near-duplicate stands for it.

    One row per frame. Made again when files of the episode change; unchanged files are not opened. Unreadable files
    are rows with a reason, not failures; the check `frames_are_readable` stops the road when they are too many.
    """
    chosen, layout, episode = settings.load(), settings.layout, context.partition_key
    source = UPath(chosen.frames_source)
    found = find_episode(source, episode)
    previous = read_earlier_table(FRAMES, layout.table("frames", episode))
    fingerprint = source_fingerprint(found)
    with timed() as watch:
        table = scan_episode(found, source, chosen.frames, previous=previous, progress=progress.of(context))
    unreadable = table.filter(pl.col("status") == "unreadable")
    sheet = frames_sheet(table, source)
    metadata = {
        "frame_count": table.height,
        **{
            f"{status}_count": int((table["status"] == status).sum())
            for status in ("dark", "blank", "faded", "credits")
        },
        "representative_count": table.filter(pl.col("representative") == pl.col("frame_id")).height,
        "shot_count": table["shot"].n_unique() if table.height else 0,
        "unreadable_count": unreadable.height,
        "unreadable_files": records(unreadable.select("source", "reason")),
        "seconds": watch.seconds,
        **({"contact_sheet": picture(sheet, f"shots of {episode}")} if sheet else {}),
    }
    return made(
        "frames",
        chosen,
        value=table,
        version=table_version(table, without=("modified_ns",)),
        metadata=metadata,
        tags={SOURCE_TAG: fingerprint},
    )


@dg.asset(partitions_def=EPISODES, pool=GPU_POOL)
def character_layers(
    context: dg.AssetExecutionContext, settings: SettingsResource, progress: ProgressResource, frames: pl.DataFrame
) -> dg.MaterializeResult:
    """Characters cut out of the episode's representative frames: one row and one RGBA cut-out per instance.

    Presence is decided on the raw output of the matte network. Frames whose pixels, model and parameters are
    unchanged are not computed again.
    """
    chosen, layout, episode = settings.load(), settings.layout, context.partition_key
    require_room(chosen)
    matte = open_matte(chosen.segmentation, settings.device())
    previous = read_earlier_table(INSTANCES, layout.table("character_layers", episode))
    restore = restorer_of(context, settings, progress)
    with timed() as watch:
        # Under their names and in their boxes: cut out as if new they might differ by a rounding, and with them all
        # that was made of them.
        restore(_cut_before(previous, frames, matte.fingerprint)["cutout"])
        result = segment_episode(
            frames, UPath(chosen.frames_source), matte, chosen.segmentation, layout,
            previous=previous, progress=progress.of(context),
        )  # fmt: skip
    forget_removal(layout, episode, LayerKind.CHARACTERS)
    sheet = instances_sheet(result.instances, layout)
    metadata = {
        "instance_count": result.instances.height,
        "presence_rate": round(result.present_count / max(1, result.representative_count), 4),
        "reused_frame_count": result.reused_count,
        "problem_count": len(result.problems),
        "problems": dg.MetadataValue.json([vars(problem) for problem in result.problems[:20]]),
        "cutout_bytes": folder_bytes(layout.character_layers(episode)),
        "matte_fingerprint": matte.fingerprint,
        **told(restore),
        "device": settings.device(),
        "seconds": watch.seconds,
        **({"contact_sheet": picture(sheet, f"characters of {episode}")} if sheet else {}),
    }
    return made("character_layers", chosen, value=result.instances, metadata=metadata)


def _cut_before(previous: pl.DataFrame, frames: pl.DataFrame, matte_fingerprint: str) -> pl.DataFrame:
    """Return the rows of an earlier table that this matte cut out of frames as they are now."""
    now = frames.select("frame_id", frame_sha256="content_sha256")
    same_matte = previous.filter(pl.col("matte_fingerprint") == matte_fingerprint)
    return same_matte.join(now, on=["frame_id", "frame_sha256"], how="semi")


@dg.asset(partitions_def=EPISODES)
def background_layers(
    context: dg.AssetExecutionContext,
    settings: SettingsResource,
    progress: ProgressResource,
    frames: pl.DataFrame,
    character_layers: pl.DataFrame,
) -> dg.MaterializeResult:
    """The clean plate of every shot: the background with the characters taken out."""
    chosen, layout, episode = settings.load(), settings.layout, context.partition_key
    require_room(chosen)
    stored = read_earlier_table(BACKGROUNDS, layout.table("background_layers", episode))
    remove_stale_plates(stored, layout, episode)  # those of the run before the last; readers of the last keep theirs
    restore = restorer_of(context, settings, progress)
    with timed() as watch:
        read = plate_frames(frames, chosen.background)
        restore(character_layers.join(read, on="frame_id", how="semi")["cutout"])
        table = build_backgrounds(
            frames,
            character_layers,
            UPath(chosen.frames_source),
            chosen.background,
            layout,
            progress=progress.of(context),
        )
    forget_removal(layout, episode, LayerKind.BACKGROUNDS)
    sheet = files_sheet(layout, table["plate"].head(24).to_list(), columns=4, tile_px=200)
    metadata = {
        "plate_count": table.height,
        "plate_bytes": folder_bytes(layout.background_layers(episode)),
        "filled_share_mean": float(table.select(pl.mean("filled_share")).item() or 0.0),
        **told(restore),
        "seconds": watch.seconds,
        **({"contact_sheet": picture(sheet, "clean plates")} if sheet else {}),
    }
    return made("background_layers", chosen, value=table, metadata=metadata)


@dg.asset(partitions_def=EPISODES, pool=GPU_POOL)
def embeddings(
    context: dg.AssetExecutionContext,
    settings: SettingsResource,
    progress: ProgressResource,
    character_layers: pl.DataFrame,
) -> dg.MaterializeResult:
    """A unit vector for every instance, by open_clip.

    Unchanged cut-outs keep their vector; a changed model makes all of them anew.
    """
    chosen, layout, episode = settings.load(), settings.layout, context.partition_key
    model = open_image_text_model(chosen.embedding, settings.device())
    previous = read_earlier_table(EMBEDDINGS, layout.table("embeddings", episode))
    restore = restorer_of(context, settings, progress)
    with timed() as watch:
        result = embed_instances(
            character_layers, layout, model, chosen.embedding,
            previous=previous, progress=progress.of(context), restore=restore,
        )  # fmt: skip
    remove_stale_cutouts(character_layers, layout, episode)  # only now is the table stored that names the new ones
    metadata = {
        "embedding_count": result.table.height,
        "dimension": model.dimension,
        "reused_count": result.reused_count,
        "problem_count": len(result.problems),
        **told(restore),
        "model_fingerprint": model.fingerprint,
        "device": settings.device(),
        "seconds": watch.seconds,
        "images_per_second": round(result.table.height / max(watch.seconds, 1e-6), 2),
    }
    return made("embeddings", chosen, value=result.table, metadata=metadata)


ASSETS = [frames, character_layers, background_layers, embeddings]
