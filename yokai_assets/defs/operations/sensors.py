"""Sensors that register partitions: new episodes on disk, new characters in the registry.

They register only. Runs are asked for by people, by `yokai run`, or by automation; a sensor that also asked for
runs would make each partition run twice.
"""

import dagster as dg
from upath import UPath

from yokai_assets.defs.partitions import CHARACTERS, EPISODES
from yokai_assets.defs.resources import SettingsResource
from yokai_assets.frames.episodes import discover_episodes
from yokai_assets.registry import RegistryStore


@dg.sensor(
    name="new_episodes",
    minimum_interval_seconds=60,
    description="Registers a partition for every episode folder or video that appears in the frames source.",
)
def new_episodes(context: dg.SensorEvaluationContext, settings: SettingsResource) -> dg.SensorResult | dg.SkipReason:
    """Look through the frames source; problems with folders are logged with their remedy."""
    source = UPath(settings.load().frames_source)
    if not source.exists():
        return dg.SkipReason(f"{source}: there is no such folder. Set `frames_source` in yokai.toml.")
    episodes, problems = discover_episodes(source)
    for problem in problems:
        context.log.warning(f"{problem.path}: {problem.reason}. {problem.remedy}")
    return _register(context, EPISODES, [episode.key for episode in episodes])


@dg.sensor(
    name="new_characters",
    minimum_interval_seconds=60,
    description="Registers a partition for every character of the registry that is large enough to train.",
)
def new_characters(context: dg.SensorEvaluationContext, settings: SettingsResource) -> dg.SensorResult | dg.SkipReason:
    """Look at the newest registry."""
    registry = RegistryStore(settings.layout.registry).load()
    if registry is None:
        return dg.SkipReason("There is no character registry yet: materialize `character_registry`.")
    return _register(context, CHARACTERS, registry.trainable_ids())


def _register(
    context: dg.SensorEvaluationContext, partitions: dg.DynamicPartitionsDefinition, keys: list[str]
) -> dg.SensorResult | dg.SkipReason:
    known = set(context.instance.get_dynamic_partitions(str(partitions.name)))
    new = sorted(set(keys) - known)
    if not new:
        return dg.SkipReason(f"{len(known)} {partitions.name} are registered, none is new.")
    return dg.SensorResult(dynamic_partitions_requests=[partitions.build_add_request(new)])


SENSORS = [new_episodes, new_characters]
