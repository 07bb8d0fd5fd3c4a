"""Retention on Dagster's records: what is still needed, and telling the UI what was removed.

Needed are layers that something not made yet, not up to date, or being made right now will read. What may go of the
rest is `yokai_assets.retention`'s matter.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import dagster as dg
from upath import UPath

from yokai_assets.analysis import read_profile
from yokai_assets.defs.operations import jobs
from yokai_assets.defs.operations.ahead import assets_of, runs_ahead
from yokai_assets.defs.operations.failing import asset_of_step
from yokai_assets.defs.operations.planning import Planner
from yokai_assets.frames.episodes import discover_episodes
from yokai_assets.gallery.scenes import load_scenes
from yokai_assets.progress import Progress, silent
from yokai_assets.registry import Registry, RegistryStore
from yokai_assets.retention.applying import RetentionResult, apply_retention
from yokai_assets.retention.planning import Needs, RetentionPlan, plan_retention
from yokai_assets.settings import Settings
from yokai_assets.storage.layout import Layout

_READERS = frozenset(("character_profile", "captions", "training_dataset"))
_JUDGES = frozenset(("lora_model", "lora_evaluation", "published_lora"))


def plan_now(instance: dg.DagsterInstance, settings: Settings) -> RetentionPlan:
    """Name what may go now."""
    policy = settings.retention
    is_asked = policy.layers != "keep" or policy.checkpoints_per_character is not None
    return plan_retention(Layout.of(settings), policy, needs_of(instance, settings) if is_asked else Needs())


def retain(
    instance: dg.DagsterInstance, settings: Settings, *, progress: Progress = silent
) -> tuple[RetentionPlan, RetentionResult]:
    """Plan, remove, and tell the UI: an observation of each partition whose layers or checkpoints were removed."""
    plan = plan_now(instance, settings)
    result = apply_retention(plan, Layout.of(settings), progress=progress)
    for removal in result.done:
        if removal.paths and removal.partition and removal.stage in _ASSETS:
            metadata = {
                "removed": f"{len(removal.paths)} files, to save space ({removal.policy}): {removal.why}. "
                f"{_ASSETS[removal.stage]}",
                "removed_file_count": len(removal.paths),
                "removed_bytes": removal.size_bytes,
            }
            observation = dg.AssetObservation(removal.stage, partition=removal.partition, metadata=metadata)
            instance.report_runless_asset_event(observation)
    return plan, result


_BACK = (
    "Nothing is stale for it: what reads them makes them again first. To have all of them, materialize this partition."
)
_ASSETS = {
    "character_layers": _BACK,
    "background_layers": _BACK,
    "lora_model": "The chosen, the last and the best judged checkpoints are there. Train again to have all of them.",
}


def needs_of(instance: dg.DagsterInstance, settings: Settings) -> Needs:
    """Return what is needed, and why: each episode and character once, with the first reason found."""
    layout, planner = Layout.of(settings), Planner(instance, settings)
    made = _made_episodes(layout)
    fixed: dict[str, str] = {}
    for episode, why in _untouchable_episodes(instance, settings, planner, made):
        fixed.setdefault(episode, why)
    wanted = dict.fromkeys(made, why) if (why := _why_all_are_wanted(planner)) else {}
    registry = RegistryStore(layout.registry).load()
    if registry is None:
        return Needs(fixed, wanted or dict.fromkeys(made, "there are no characters yet"))
    trainable = registry.trainable_ids()[: settings.max_characters]
    characters: dict[str, str] = {}
    for need in (*_at_work(instance, trainable), *_to_be_made(planner, trainable)):
        characters.setdefault(need.character, need.why)
        if need.reads_layers:
            for episode in registry.members_of(need.character)["episode"].unique().sort():
                into = fixed if need.is_now else wanted
                into.setdefault(episode, f"{need.character} is seen in it; {need.why}")
    return Needs(fixed, wanted, characters, _shown(registry, layout))


def _untouchable_episodes(
    instance: dg.DagsterInstance, settings: Settings, planner: Planner, made: list[str]
) -> Iterator[tuple[str, str]]:
    """Yield episodes that are not to be touched, whoever is seen in them, and why."""
    source = UPath(settings.frames_source)
    sources = discover_episodes(source)[0] if source.exists() else []
    present = {episode.key for episode in sources}
    for episode in made:
        if episode not in present:
            yield episode, f"it is not in {source}: its layers could not be made again"
    for run in runs_ahead(instance):
        if (key := run.tags.get("dagster/partition")) in present:
            yield key, f"run {run.run_id[:8]} is making it"
    for work in planner.episodes([episode for episode in sources if episode.key in set(made)]):
        yield work.partition or "", f"it is out of date ({work.why})"


def _why_all_are_wanted(planner: Planner) -> str | None:
    """Return why it is not known yet who is seen where."""
    for work in planner.series():
        return f"the series is to be clustered first ({work.why})"
    if planner.is_stopped(jobs.SERIES_JOB, "character_registry"):
        return "the series is to be clustered first (a blocking check refused the clustering)"
    return None


@dataclass(frozen=True, slots=True)
class _Need:
    """A character that something is made of: why, whether from layers, and whether a run does it now."""

    character: str
    why: str
    reads_layers: bool
    is_now: bool = False


def _to_be_made(planner: Planner, trainable: list[str]) -> Iterator[_Need]:
    for work in planner.characters(trainable):
        if work.partition and (pending := _pending(work.assets)):
            first = next(asset for asset in work.assets if asset in pending)
            why = f"{first} is to be made ({work.reasons[first]})"
            yield _Need(work.partition, why, reads_layers=bool(_READERS & pending))


def _at_work(instance: dg.DagsterInstance, trainable: list[str]) -> Iterator[_Need]:
    known = set(trainable)
    for run in runs_ahead(instance):
        key = run.tags.get("dagster/partition", "")
        if key in known and (pending := _pending(assets_of(run)) - _finished(instance, run)):
            why = f"run {run.run_id[:8]} is making it"
            yield _Need(key, why, reads_layers=bool(_READERS & pending), is_now=True)


def _pending(assets: tuple[str, ...] | set[str]) -> frozenset[str]:
    return (_READERS | _JUDGES) & frozenset(assets)


def _finished(instance: dg.DagsterInstance, run: dg.DagsterRun) -> set[str]:
    """Return the assets that a run has made already."""
    steps = instance.get_run_step_stats(run.run_id)
    done = (asset_of_step(step.step_key)[1] for step in steps if step.status and step.status.value == "SUCCESS")
    return {asset for asset in done if asset}


def _made_episodes(layout: Layout) -> list[str]:
    folder = layout.layers
    return sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith(".")) if folder.exists() else []


def _shown(registry: Registry, layout: Layout) -> frozenset[str]:
    """Return the cut-outs and plates that report and profiles show: a few of each character, which stay."""
    scenes = load_scenes(registry.characters["exemplars"].explode().drop_nulls().to_list(), layout, []).values()
    shown = {layer for scene in scenes for layer in (scene.cutout, scene.plate) if layer}
    for character in registry.characters["character_id"]:
        try:
            profile = read_profile(layout, character)
        except (FileNotFoundError, ValueError):
            continue
        shown |= {e.cutout for e in (*profile.exemplars, *(outfit.exemplar for outfit in profile.outfits))}
    return frozenset(shown)
