"""Overhead of a partition: the same small episode as steps of one process, as a process per run, as one per step.

`python -m yokai_assets_tests.benchmarks.partitions` prints seconds per episode and ratios. An episode of a dozen
frames takes the stages themselves about a second; the rest is starting processes and loading models.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import dagster as dg

from yokai_assets.definitions import build_definitions
from yokai_assets.defs.episodes import assets as episode_assets
from yokai_assets.defs.operations.session import instance_home
from yokai_assets.defs.partitions import EPISODES
from yokai_assets.defs.resources import SettingsResource
from yokai_assets.demo.series import generate_series

KEYS = [f"episode_{number:03d}" for number in range(1, 7)]


def step_processes_job() -> dg.JobDefinition:
    """Return the episode job with a process per step; named so that Dagster can load it in those processes."""
    job = dg.define_asset_job("steps", selection=episode_assets.ASSETS, executor_def=dg.multiprocess_executor)
    definitions = build_definitions()
    return dg.Definitions.merge(definitions, dg.Definitions(jobs=[job])).resolve_job_def("steps")


def in_this_process(instance: dg.DagsterInstance, key: str) -> None:
    """Run the episode's steps here, as `yokai run` does."""
    job = build_definitions().resolve_job_def("episodes")
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    assert job.execute_in_process(instance=instance, partition_key=key, run_config=quiet).success


def in_a_process(key: str) -> None:
    """Run the episode in a process of its own, its steps together: a run that the UI launches."""
    select = ",".join(asset.key.to_user_string() for asset in episode_assets.ASSETS)
    command = ["asset", "materialize", "-m", "yokai_assets.definitions", "--select", select, "--partition", key]
    subprocess.run([sys.executable, "-m", "dagster", *command], check=True, capture_output=True)


def in_a_process_per_step(instance: dg.DagsterInstance, key: str) -> None:
    """Run the episode with a process for each step: Dagster's default."""
    result = dg.execute_job(dg.reconstructable(step_processes_job), instance=instance, tags={"dagster/partition": key})
    assert result.success


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        generate_series(root / "frames", episodes=len(KEYS), frames_per_episode=12, characters=2, rare_characters=0)
        (root / "yokai.toml").write_text('profile = "demo"\nframes_source = "frames"\ndevice = "cpu"\n')
        os.environ["YOKAI_CONFIG"] = str(root / "yokai.toml")
        os.environ["DAGSTER_HOME"] = str(instance_home(SettingsResource.of(root / "yokai.toml").load()))
        with dg.DagsterInstance.get() as instance:
            instance.add_dynamic_partitions(str(EPISODES.name), KEYS)
            in_this_process(instance, KEYS[0])  # loads the models
            seconds = {
                "steps of one process, models loaded": _timed(lambda: in_this_process(instance, KEYS[1])),
                "a process per run": _timed(lambda: in_a_process(KEYS[2])),
                "a process per step": _timed(lambda: in_a_process_per_step(instance, KEYS[3])),
            }
    first = next(iter(seconds.values()))
    for name, value in seconds.items():
        print(f"{name:40s} {value:7.2f} s per episode   {value / first:5.1f}x")


def _timed(work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
