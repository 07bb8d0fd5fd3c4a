"""A weekend alone: twenty episodes through the queue; one is broken, one training fails, one worker is killed.

What is protected: the rest is finished, the report names the three and nothing else, and once they are mended the next
`yokai run` makes what is missing, only that.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import dagster as dg
import pytest

from yokai_assets.defs.operations.session import instance_home
from yokai_assets.defs.operations.workers import process_of
from yokai_assets.demo.series import generate_series
from yokai_assets.evaluation import verdicts
from yokai_assets.gallery.failures import open_failures
from yokai_assets.registry import RegistryStore
from yokai_assets.runs import RunRoom
from yokai_assets.settings import Settings, load_settings
from yokai_assets.storage.layout import Layout
from yokai_assets.storage.parquet import table_files

pytestmark = [pytest.mark.faults, pytest.mark.timeout(5400)]

EPISODES = 20
BROKEN, KILLED = "episode_004", "episode_010"
FAILING = "cluster_001"
SETTINGS = """
profile = "demo"
device = "cpu"
frames_source = "frames"
data_root = "data"
clustering = { min_cluster_size = 6, min_rare_cluster_size = 4 }
dataset = { min_images = 3, max_images = 12 }
training = { max_train_steps = 4, save_every_n_steps = 2, network_dim = 2, lr_warmup_steps = 0 }
evaluation = { prompts = ["{trigger}"], images_per_prompt = 2, inference_steps = 2, max_checkpoints = 1 }
"""


class Assassin:
    """Kills every process that executes a partition, as often as Dagster tries it, until it is called off."""

    def __init__(self, home: Path, partition: str) -> None:
        self.killed: set[str] = set()
        self._home, self._partition = home, partition
        self._is_over = Event()
        self._thread = Thread(target=self._work, daemon=True)

    def __enter__(self) -> "Assassin":
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _work(self) -> None:
        wanted = dg.RunsFilter(tags={"dagster/partition": self._partition}, statuses=[dg.DagsterRunStatus.STARTED])
        with dg.DagsterInstance.from_config(str(self._home)) as instance:
            while not self._is_over.wait(0.3):
                for run in instance.get_runs(filters=wanted):
                    process = process_of(instance, run)
                    if process and run.run_id not in self.killed:
                        os.kill(process[0], signal.SIGKILL)
                        self.killed.add(run.run_id)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("weekend")
    generate_series(
        folder / "frames", episodes=EPISODES, frames_per_episode=24, characters=3, rare_characters=0, seed=11,
        size_px=(256, 144),
    )  # fmt: skip
    file = folder / "yokai.toml"
    file.write_text(SETTINGS)
    yield file


def yokai_run(config: Path) -> int:
    command = [sys.executable, "-m", "yokai_assets.cli.main", "run", "--config", str(config)]
    return subprocess.run(command, stdin=subprocess.DEVNULL, timeout=2400).returncode


def record_of(settings: Settings) -> Any:
    """Return the record of the last run, without the verdicts on LoRAs: one of four steps is rightly refused."""
    record = RunRoom.of(settings).record()
    assert record is not None
    record.failures = [failure for failure in record.failures if failure.step not in verdicts.BLOCKING]
    return record


def test_three_faults_are_named_and_mended_and_all_else_is_made(config: Path) -> None:
    """See the module."""
    settings = load_settings(config)
    layout = Layout.of(settings)
    frames = config.parent / "frames"
    shutil.copytree(frames / BROKEN, config.parent / "aside")
    for file in (frames / BROKEN).iterdir():
        file.write_bytes(file.read_bytes()[:100])
    obstacle = Path(str(layout.lora(FAILING)))
    obstacle.parent.mkdir(parents=True)
    obstacle.write_text("a file where the folder of a LoRA is to be")

    began = time.monotonic()
    with Assassin(instance_home(settings), KILLED) as assassin:
        assert yokai_run(config) == 1
    first_seconds = time.monotonic() - began
    assert len(assassin.killed) == 2, "once, and once more when Dagster tried it again"
    record = record_of(settings)
    assert {failure.partition for failure in record.failures} == {BROKEN, KILLED, FAILING}
    reasons = {failure.partition: failure.reason for failure in record.failures}
    assert "unreadable" in reasons[BROKEN] and str(obstacle) in reasons[FAILING]
    assert re.search(r"SIGKILL|is gone", reasons[KILLED]), reasons[KILLED]
    left = [failure for failure in open_failures(layout) if failure.step not in verdicts.BLOCKING]
    assert sorted(failure.partition or "" for failure in left) == sorted([BROKEN, KILLED, FAILING]), left
    made = set(table_files(layout.tables / "embeddings"))
    assert made == {f"episode_{number:03d}" for number in range(1, EPISODES + 1)} - {BROKEN, KILLED}
    trainable = trainable_characters(layout)
    assert FAILING in trainable and len(trainable) >= 2
    assert set(table_files(layout.tables / "lora_evaluation")) == trainable - {FAILING}

    shutil.rmtree(frames / BROKEN)
    (config.parent / "aside").rename(frames / BROKEN)
    obstacle.unlink()
    began = time.monotonic()
    yokai_run(config)
    record = record_of(settings)
    assert record.failures == []
    episodes = next(stage for stage in record.stages if stage.job == "episodes")
    assert (episodes.done, episodes.skipped) == (2, EPISODES - 2), "only what was missing"
    assert len(set(table_files(layout.tables / "embeddings"))) == EPISODES
    assert set(table_files(layout.tables / "lora_evaluation")) >= trainable_characters(layout)
    with dg.DagsterInstance.from_config(str(instance_home(settings))) as instance:
        ended = Counter(run.status.value for run in instance.get_runs())
        slots = instance.event_log_storage.get_concurrency_info("gpu")
    assert set(ended) == {"SUCCESS", "FAILURE"} and not slots.claimed_slots
    print(
        f"\n{EPISODES} episodes, 3 faults: {first_seconds:.0f} s, then {time.monotonic() - began:.0f} s; "
        f"runs {dict(ended)}, workers killed {len(assassin.killed)}"
    )


def trainable_characters(layout: Layout) -> set[str]:
    registry = RegistryStore(layout.registry).load()
    assert registry is not None
    return set(registry.trainable_ids())
