"""Examinations of Dagster's instance for `yokai doctor`: storage, pools, daemon. Those of the machine: `checkup`."""

from collections.abc import Iterator

import dagster as dg

from yokai_assets.checkup import Doubt, Examination
from yokai_assets.defs.operations.launcher import WatchedRunLauncher
from yokai_assets.defs.operations.queueing import PARTITION_TAG
from yokai_assets.defs.operations.session import instance_home, open_instance, shipped_instance_file
from yokai_assets.defs.policies import DUCKDB_POOL, GPU_POOL
from yokai_assets.settings import Settings


def dagster_examinations(settings: Settings) -> Iterator[Examination]:
    """Yield what can be looked at in the instance of the settings' data root."""
    yield "Dagster", lambda: _instance(settings)
    yield "queue", lambda: _queue(settings)
    yield "pools", lambda: _pools(settings)
    yield "daemon", lambda: _daemon(settings)


def _instance(settings: Settings) -> str:
    with open_instance(settings) as instance:
        count = instance.get_runs_count()
        storage = type(instance.run_storage).__name__
    return f"{dg.__version__}, {count} runs so far, {storage} in {instance_home(settings)}"


def _queue(settings: Settings) -> str:
    """Say how the instance guards runs.

    Raises:
        Doubt: Its `dagster.yaml`, a person's own or one copied by an earlier version, lacks a guard.
    """
    with open_instance(settings) as instance:
        queue = instance.get_concurrency_config().run_queue_config
        limits = queue.tag_concurrency_limits if queue else []
        guards = {
            "a run of a killed process is noticed (`run_launcher` of the shipped file, `run_monitoring`)": (
                isinstance(instance.run_launcher, WatchedRunLauncher) and instance.run_monitoring_enabled
            ),
            "... and tried again (`run_retries`)": instance.run_retries_enabled,
            "a partition has one run at a time (`tag_concurrency_limits`)": any(
                limit.get("key") == PARTITION_TAG for limit in limits
            ),
        }
    missing = [what for what, is_there in guards.items() if not is_there]
    if missing:
        raise Doubt(
            f"{instance_home(settings) / 'dagster.yaml'} does not see to it that {'; that '.join(missing)}. Take these "
            f"sections over from {shipped_instance_file()}"
        )
    return "killed runs are noticed and tried again, one run of a partition at a time"


def _pools(settings: Settings) -> str:
    """Say how many steps of a pool run at once.

    Raises:
        Doubt: A pool without limit lets several processes write one database, or fill one GPU.
    """
    with open_instance(settings) as instance:
        configured = instance.get_concurrency_config().pool_config.default_pool_limit
        own = {limit.name: limit.limit for limit in instance.event_log_storage.get_pool_limits()}
    limits = {pool: own.get(pool, configured) for pool in (GPU_POOL, DUCKDB_POOL)}
    unlimited = [pool for pool, limit in limits.items() if limit is None]
    if unlimited:
        raise Doubt(
            f"no limit for {', '.join(unlimited)}: steps of a pool run at the same time. Set one: "
            f"dagster instance concurrency set {unlimited[0]} 1 (with DAGSTER_HOME={instance_home(settings)})"
        )
    return ", ".join(f"{pool}: {limit} at once" for pool, limit in limits.items())


def _daemon(settings: Settings) -> str:
    with open_instance(settings) as instance:
        healthy = [name for name, status in instance.get_daemon_statuses().items() if status.healthy]
    return f"running ({', '.join(sorted(name.lower() for name in healthy))})" if healthy else "not running"
