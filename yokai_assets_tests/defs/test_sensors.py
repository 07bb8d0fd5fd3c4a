"""Sensors register partitions, once, when their files are whole, and never ask for runs."""

import time
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl
import pytest
from PIL import Image

from yokai_assets.defs.operations.sensors import new_characters, new_episodes
from yokai_assets.defs.resources import SettingsResource
from yokai_assets.registry import RegistryStore, update_registry
from yokai_assets.tables import CLUSTERS, EMBEDDINGS


def tick(sensor, instance, source) -> dg.SensorResult | dg.SkipReason:
    with dg.build_sensor_context(instance=instance, resources={"settings": source}) as context:
        return sensor(context)


def settling_in(source: SettingsResource, seconds: float) -> SettingsResource:
    return SettingsResource.of(overrides={**source.overrides, "operations": {"settle_seconds": seconds}})


def registered(result: dg.SensorResult | dg.SkipReason) -> list[str]:
    assert isinstance(result, dg.SensorResult), result
    assert not result.run_requests, "a sensor that also asked for runs would make each partition run twice"
    return [key for request in result.dynamic_partitions_requests or [] for key in request.partition_keys]


def add_episode(source, name: str) -> None:
    folder = Path(source.load().frames_source) / name
    folder.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(folder / "1.png")


def test_new_episodes_are_registered_once(instance, source):
    """Only what is new is asked for; a tick without news says so instead of asking again."""
    source = settling_in(source, 0)
    for name in ("e2", "e1"):
        add_episode(source, name)
    assert registered(tick(new_episodes, instance, source)) == ["e1", "e2"]
    instance.add_dynamic_partitions("episodes", ["e1", "e2"])
    assert isinstance(tick(new_episodes, instance, source), dg.SkipReason)
    add_episode(source, "e3")
    assert registered(tick(new_episodes, instance, source)) == ["e3"]


def test_an_episode_that_is_still_copied_waits(instance, source, monkeypatch):
    """Half an episode would be made, and made again; it is taken once its files have been still for a while."""
    now = [time.time()]
    monkeypatch.setattr(time, "time", lambda: now[0])
    source = settling_in(source, 100)
    add_episode(source, "e1")
    folder = Path(source.load().frames_source) / "e1"
    with dg.build_sensor_context(instance=instance, resources={"settings": source}) as context:
        assert isinstance(new_episodes(context), dg.SkipReason)
        now[0] += 99
        Image.new("RGB", (9, 9)).save(folder / "2.png")
        assert isinstance(new_episodes(context), dg.SkipReason), "a file came: it begins to wait anew"
        now[0] += 99
        assert isinstance(new_episodes(context), dg.SkipReason)
        now[0] += 2
        assert registered(new_episodes(context)) == ["e1"]  # pyright: ignore[reportArgumentType]


def test_a_missing_source_is_a_reason_not_a_crash(instance, source):
    """A drive that is not mounted must not turn the sensor red at every tick; the reason names the folder."""
    Path(source.load().frames_source).rmdir()
    result = tick(new_episodes, instance, source)
    assert isinstance(result, dg.SkipReason)
    assert "frames_source" in (result.skip_message or "")


@pytest.fixture
def registry_of_two(source) -> None:
    """One character of 20 members, one of 3: too small at the demo's 15."""
    sizes, rows = [20, 3], []
    for label, size in enumerate(sizes):
        rows += [{"id": f"e1/{label:03d}{i:03d}/0", "label": label} for i in range(size)]
    ids = [row["id"] for row in rows]
    clusters = CLUSTERS.from_rows(
        {
            "instance_id": r["id"],
            "episode": "e1",
            "cluster_label": r["label"],
            "probability": 1.0,
            "is_rare_group": False,
            "representative": r["id"],
            "is_joined": False,
            "cutout_sha256": "x",
        }
        for r in rows
    )
    vectors = np.eye(4, dtype=np.float32)[[row["label"] for row in rows]]
    embeddings = EMBEDDINGS.conform(
        pl.DataFrame(
            {"instance_id": ids, "episode": "e1", "cutout_sha256": ids, "model_fingerprint": "m", "vector": vectors}
        )
    )
    settings = source.load()
    registry = update_registry(None, clusters, embeddings, settings.registry, 15, datetime(2026, 1, 1, tzinfo=UTC))
    RegistryStore(source.layout.registry).save(registry)


@pytest.mark.usefixtures("registry_of_two")
def test_only_characters_that_can_be_trained_are_registered(instance, source):
    """A character that is too small is in the registry and says so, but is no partition to be trained."""
    assert registered(tick(new_characters, instance, source)) == ["cluster_000"]


def test_without_a_registry_nothing_happens(instance, source):
    """Before the first clustering there is nothing to register."""
    assert isinstance(tick(new_characters, instance, source), dg.SkipReason)
