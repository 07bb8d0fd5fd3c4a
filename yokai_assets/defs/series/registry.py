"""The characters of the series and what people decided of them. Rules are in `yokai_assets.registry`."""

import dagster as dg
import polars as pl

from yokai_assets.datasets.regularisation import build_regularisation
from yokai_assets.defs.characters.inputs import load_registry
from yokai_assets.defs.layers import restorer_of, told
from yokai_assets.defs.resources import SettingsResource
from yokai_assets.defs.results import SOURCE_TAG, made, picture, records, timed
from yokai_assets.previews.cutouts import without_removed
from yokai_assets.previews.groups import cutouts_by
from yokai_assets.previews.stages import groups_sheet
from yokai_assets.registry import DecisionStore, keep_registry
from yokai_assets.registry.states import STATE_MEANINGS, doubts_of
from yokai_assets.settings import Settings
from yokai_assets.storage.layout import Layout
from yokai_assets.storage.parquet import files_fingerprint, read_columns, table_files
from yokai_assets.storage.vectors import read_vectors
from yokai_assets.tables import BACKGROUNDS

CHARACTER_COLUMNS = ("character_id", "name", "state", "other_id", "reason", "member_count", "episode_count")


def decisions_fingerprint(layout: Layout) -> str:
    """Return a hash of the decisions that hold now."""
    return DecisionStore(layout.registry).load().fingerprint


character_decisions = dg.AssetSpec(
    "character_decisions",
    description="What people decided with `yokai characters`: names, merges, splits, exclusions, what is no character. "
    "Each decision is an event of it.",
)


@dg.asset(deps=[character_decisions])
def character_registry(
    settings: SettingsResource, clusters: pl.DataFrame, group_quality: pl.DataFrame
) -> dg.MaterializeResult:
    """The characters of the series, with ids that never move.

    Each clustering is matched to the known characters (shared members first, centroids second), then decisions are
    applied; what happened to each - born, grown, merged, split, named, ... - is an event. Only `active` ones are
    trained; the state of the others says why not.
    """
    chosen, layout = settings.load(), settings.layout
    with timed() as watch:
        embeddings = read_vectors(layout.database).as_embeddings()
        doubts = doubts_of(group_quality, clusters)
        registry, former, decisions = keep_registry(clusters, embeddings, chosen, layout, doubts=doubts)
    states = dict(registry.characters.group_by("state").len().iter_rows())
    shown = without_removed(registry.members, layout).sort("centroid_cosine", descending=True)
    groups = cutouts_by(shown, "character_id", layout)
    sheet = groups_sheet(groups, layout)
    metadata = {
        "registry_version": registry.version,
        **{f"{state}_count": states.get(state, 0) for state in STATE_MEANINGS},
        "member_count": registry.members.height,
        "characters": records(registry.characters.select(CHARACTER_COLUMNS)),
        "has_changed": registry is not former,
        "newest_events": records(registry.new_events.select("character_id", "kind", "other_id", "note")),
        "decisions": records(registry.decisions.select("decision_id", "meaning", "status", "reason").reverse()),
        "seconds": watch.seconds,
        **({"contact_sheet": picture(sheet, "one row per character, most typical first")} if sheet else {}),
    }
    return made(
        "character_registry", chosen, version=registry.content_hash, metadata=metadata,
        tags={SOURCE_TAG: decisions.fingerprint}, is_partitioned=False,
    )  # fmt: skip


def plates_fingerprint(settings: Settings, layout: Layout) -> str:
    """Return a hash of which clean plates the regularisation set would be made of now."""
    wanted = settings.dataset.regularisation_images
    return files_fingerprint({"plates": table_files(layout.tables / "background_layers")} if wanted else {})


@dg.asset(deps=[dg.AssetDep("background_layers", partition_mapping=dg.AllPartitionMapping()), character_registry])
def regularisation_set(context: dg.AssetExecutionContext, settings: SettingsResource) -> dg.MaterializeResult:
    """Scenery and pictures of all characters, shared by the series, for trainers that want a regularisation set.

    Nothing, unless `dataset.regularisation_images` asks for it.
    """
    chosen, layout = settings.load(), settings.layout
    registry, wanted = load_registry(layout), chosen.dataset.regularisation_images
    active = registry.characters.filter(state="active")["character_id"]
    is_active = pl.col("character_id").is_in(active.implode())
    typical = registry.members.filter(is_active).sort("centroid_cosine", "instance_id", descending=[True, False])
    folder, columns = layout.tables / "background_layers", list(BACKGROUNDS.schema)
    plates = read_columns(BACKGROUNDS, folder, columns, skip_damaged=True)
    shown = cutouts_by(typical, "character_id", layout, wanted // max(1, active.len()) + 1)
    restore = restorer_of(context, settings)
    result = build_regularisation(
        shown, plates, layout, wanted, chosen.seed, resolution_px=chosen.training.resolution_px, restore=restore
    )
    metadata = {
        "image_count": sum(result.counts.values()),
        "parts": dict(result.counts),
        "problems": list(result.problems[:20]),
        **told(restore),
        "folder": dg.MetadataValue.path(str(result.folder)),
    }
    return made(
        "regularisation_set", chosen, version=result.fingerprint or "none", metadata=metadata,
        tags={SOURCE_TAG: plates_fingerprint(chosen, layout)}, is_partitioned=False,
    )  # fmt: skip


ASSETS = [character_registry, regularisation_set]
SOURCES = [character_decisions]
