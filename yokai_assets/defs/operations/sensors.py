"""Sensors that register partitions (new episodes on disk, new characters in the registry), and the one for failures.

The former register only. Runs are asked for by people, by `yokai run`, or by automation; a sensor that also asked for
runs would make each partition run twice.
"""

import json
import time
from typing import Any

import dagster as dg
from upath import UPath

from yokai_assets.defs.automation import SENSORS as AUTOMATION
from yokai_assets.defs.operations.alerting import send_alert
from yokai_assets.defs.operations.failing import failures_of_run, log_failures
from yokai_assets.defs.partitions import CHARACTERS, EPISODES
from yokai_assets.defs.resources import SettingsResource
from yokai_assets.frames.episodes import EpisodeSource, discover_episodes, source_fingerprint
from yokai_assets.registry import RegistryStore
from yokai_assets.settings import Settings
from yokai_assets.storage.layout import Layout


@dg.sensor(
    name="new_episodes",
    minimum_interval_seconds=60,
    description="Registers a partition for every episode folder or video that appears in the frames source, once its "
    "files have not changed for `operations.settle_seconds`.",
)
def new_episodes(context: dg.SensorEvaluationContext, settings: SettingsResource) -> dg.SensorResult | dg.SkipReason:
    """Look through the frames source; problems with folders are logged with their remedy."""
    loaded = settings.load()
    source = UPath(loaded.frames_source)
    if not source.exists():
        return dg.SkipReason(f"{source}: there is no such folder. Set `frames_source` in yokai.toml.")
    episodes, problems = discover_episodes(source)
    for problem in problems:
        context.log.warning(f"{problem.path}: {problem.reason}. {problem.remedy}")
    known = set(context.instance.get_dynamic_partitions(str(EPISODES.name)))
    new = [episode for episode in episodes if episode.key not in known]
    seen = _still_since(new, json.loads(context.cursor or "{}"))
    whole = [key for key, (_, since) in seen.items() if time.time() - since >= loaded.operations.settle_seconds]
    context.update_cursor(json.dumps({key: state for key, state in seen.items() if key not in whole}))
    if new and not whole:
        return dg.SkipReason(f"{', '.join(sorted(seen))}: still being written, or only just seen. Waiting.")
    return _register(context, EPISODES, whole)


def _still_since(episodes: list[EpisodeSource], before: dict[str, list]) -> dict[str, tuple[str, float]]:
    """Return key -> (what the episode's files are, since when they are so): a copy that goes on changes them."""
    seen = {}
    for episode in episodes:
        fingerprint = source_fingerprint(episode)
        former, since = before.get(episode.key, ("", 0.0))
        seen[episode.key] = (fingerprint, since if former == fingerprint else time.time())
    return seen


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


@dg.run_failure_sensor(
    name="failed_runs",
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Writes why a run failed into `failures.jsonl`, whoever launched it, and sends it to "
    "`operations.failure_webhook` where that is set.",
)
def failed_runs(context: dg.RunFailureSensorContext, settings: SettingsResource) -> None:
    """Log the failures of a run, of the series that the run's own settings name, and tell of them."""
    run = context.dagster_run
    loaded = _settings_of(run, settings)
    failures = failures_of_run(context.instance, run.run_id)
    log_failures(Layout.of(loaded), failures)
    webhook = settings.load().operations.failure_webhook
    told = [failure for failure in failures if not failure.is_too_small]
    if webhook and told and run.tags.get("dagster/will_retry") != "true":
        problem = send_alert(webhook, loaded.series, run.run_id, told)
        if problem:
            context.log.warning(problem)


def _settings_of(run: dg.DagsterRun, settings: SettingsResource) -> Settings:
    """Return the settings that a run was given; those of the code location where it was given none."""
    config: dict[str, Any] = {**run.run_config}
    given = config.get("resources", {}).get("settings", {}).get("config", {})
    return SettingsResource(**given).load() if given else settings.load()


SENSORS = [new_episodes, new_characters, failed_runs, *AUTOMATION]
