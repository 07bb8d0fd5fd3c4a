"""What automation asks for, by Dagster's own evaluator: news once, at the right time, nobody trained for nothing."""

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from yokai_assets.definitions import build_definitions
from yokai_assets.defs.automation import BY_ASSET
from yokai_assets.defs.checking import BLOCKING_CHECKS
from yokai_assets.defs.policies import POLICIES
from yokai_assets.defs.series.registry import SOURCES
from yokai_assets_tests.defs.events import report_check

Cursor = Any
"""What automation remembers between ticks; Dagster does not export its class."""

CHARACTER_CHAIN = {name for name, policy in POLICIES.items() if policy.group == "characters"}
EPISODE_CHAIN = {name for name, policy in POLICIES.items() if policy.group == "episodes"}


@cache
def _definitions() -> dg.Definitions:
    return build_definitions()


class House:
    """The real graph, its assets made by reporting them, and one tick after the other."""

    def __init__(self, instance: dg.DagsterInstance, cursor: Cursor = None) -> None:
        self.instance = instance
        self.definitions = _definitions()
        self.cursor = cursor

    def make(self, *assets: str, partition: str | None = None, version: str = "1", is_checked: bool = False) -> None:
        for asset in assets:
            tags = {"dagster/data_version": version}
            event = dg.AssetMaterialization(asset, partition=partition, tags=tags)
            self.instance.report_runless_asset_event(event)
            for check in BLOCKING_CHECKS.get(asset, ()) if is_checked else ():
                report_check(self.instance, asset, check, partition)

    def make_everything(self) -> None:
        self.instance.add_dynamic_partitions("episodes", ["e1"])
        self.instance.add_dynamic_partitions("characters", ["c1", "c2"])
        for asset, policy in POLICIES.items():
            keys = {"episodes": ["e1"], "characters": ["c1", "c2"]}.get(policy.group, [None])
            for key in keys:
                self.make(asset, partition=key)

    def tick(self, at: datetime) -> dict[str, set[str | None]]:
        """Return asset -> partitions that are asked for."""
        result = dg.evaluate_automation_conditions(
            self.definitions, self.instance, cursor=self.cursor, evaluation_time=at
        )
        self.cursor = result.cursor
        asked: dict[str, set[str | None]] = {}
        for asset in BY_ASSET:
            keys = result.get_requested_partitions(dg.AssetKey(asset))
            if keys:
                asked[asset] = set(keys)
        return asked


def at(hour: float, day: int = 1) -> datetime:
    return datetime(2026, 1, day, int(hour), round(60 * (hour % 1)), tzinfo=UTC)


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Cursor]:
    """A house in which everything is made and automation has looked once; each test has a copy of its own."""
    folder = tmp_path_factory.mktemp("settled")
    with dg.DagsterInstance.local_temp(str(folder)) as instance:
        house = House(instance)
        house.make_everything()
        assert house.tick(at(12)) == {}, "what is there before automation is turned on is nobody's news"
        return folder, house.cursor


@pytest.fixture
def house(settled: tuple[Path, Cursor], tmp_path: Path) -> Iterator[House]:
    folder, cursor = settled
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield House(instance, cursor)


def test_every_asset_that_is_made_has_a_condition_in_words(house):
    """What has none would be forgotten by automation; the tab in the UI reads the labels."""
    assert set(BY_ASSET) == set(POLICIES) - {source.key.to_user_string() for source in SOURCES}
    assert all(condition.get_label() for condition in BY_ASSET.values())


def test_a_new_episode_touches_itself_and_at_night_the_series(house):
    """By day only its own partition; at three the series, from what is there; nothing the night after."""
    house.instance.add_dynamic_partitions("episodes", ["e2"])
    asked = house.tick(at(12.1))
    assert asked == {asset: {"e2"} for asset in EPISODE_CHAIN}
    house.make(*EPISODE_CHAIN, partition="e2", is_checked=True)
    assert house.tick(at(12.2)) == {}
    night = house.tick(at(3.1, day=2))
    assert {"embedding_index", "clusters", "character_registry"} <= set(night)
    assert not set(night) & (EPISODE_CHAIN | CHARACTER_CHAIN)
    house.make(*night, version="2")
    assert not set(house.tick(at(3.1, day=3))) & {"embedding_index", "repeated_frames"}


def test_a_failing_episode_is_not_asked_for_again_at_every_tick(house):
    """Protects a night from being spent on one broken file."""
    house.instance.add_dynamic_partitions("episodes", ["e2"])
    counts = [len(house.tick(at(12.1 + minute / 60))) for minute in range(4)]
    assert counts == [len(EPISODE_CHAIN), 0, 0, 0]


def test_an_unchanged_character_is_not_retrained(house):
    """A clustering looks at every character's members again; who kept them keeps the LoRA, who changed is one run."""
    house.make("character_registry", version="2")
    assert house.tick(at(12.1)) == {"character_members": {"c1", "c2"}}
    house.make("character_members", partition="c1", version="1")
    house.make("character_members", partition="c2", version="2")
    assert house.tick(at(12.2)) == {asset: {"c2"} for asset in CHARACTER_CHAIN - {"character_members"}}
    assert house.tick(at(12.3)) == {}


def test_a_new_character_is_asked_for_whole(house):
    """From its members to its LoRA in one run, which blocking checks can stop."""
    house.instance.add_dynamic_partitions("characters", ["c3"])
    assert house.tick(at(12.1)) == {asset: {"c3"} for asset in CHARACTER_CHAIN}


@pytest.mark.parametrize("passed", [True, False])
def test_what_a_check_refused_is_not_built_upon(house, passed):
    """Vectors made from frames that a check refused would poison the series quietly."""
    house.make("frames", partition="e1", version="2")
    report_check(house.instance, "frames", "frames_are_readable", "e1", passed=passed)
    assert set(house.tick(at(12.1))) == (EPISODE_CHAIN - {"frames"} if passed else set())
