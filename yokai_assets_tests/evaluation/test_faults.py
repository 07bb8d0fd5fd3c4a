"""LoRAs with a known fault, trained with the real networks: the right check finds each, and it is not published."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from yokai_assets.defs.characters import checks
from yokai_assets.defs.characters.evaluation import published_lora
from yokai_assets.defs.partitions import CHARACTERS
from yokai_assets.defs.resources import SettingsResource
from yokai_assets.evaluation import verdicts
from yokai_assets_tests.evaluation.creatures import HERO, Cast

pytestmark = pytest.mark.timeout(900)

BLOCKING = {key.name: check for check in checks.CHECKS for key in check.check_keys if key.name in verdicts.BLOCKING}
OTHER = "cluster_001"


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small gain nothing from a second thread, and lose much where it waits."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cast, pl.DataFrame]:
    """A cast whose hero has a LoRA of 24 images, and the hero's dataset."""
    cast = Cast(tmp_path_factory.mktemp("trained"))
    dataset = cast.dataset(HERO, train_count=24, held_out_count=8, seed=1)
    cast.train(dataset, steps=120, train_batch_size=4)
    return cast, dataset


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """A real instance that knows the characters."""
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        instance.add_dynamic_partitions(str(CHARACTERS.name), [HERO, OTHER])
        yield instance


def failing(cast: Cast, evaluation: pl.DataFrame) -> set[str]:
    """Return the blocking checks of Dagster that fail on a table."""
    settings = SettingsResource.of(overrides=cast.values)
    results: dict[str, Any] = {
        name: check(settings=settings, lora_evaluation=evaluation) for name, check in BLOCKING.items()
    }
    return {name for name, result in results.items() if not result.passed}


def publish(cast: Cast, character_id: str, instance: dg.DagsterInstance, **options: bool) -> bool:
    """Materialize `published_lora` alone, where no check ever ran; return whether a LoRA was published."""
    result = dg.materialize(
        [published_lora],
        partition_key=character_id,
        instance=instance,
        resources={"settings": SettingsResource.of(overrides=cast.values)},
        run_config={"ops": {"published_lora": {"config": options}}},
        raise_on_error=False,
    )
    lora = cast.layout.lora(character_id) / f"{character_id}.safetensors"
    assert result.success == lora.exists()
    return result.success


def test_a_well_trained_lora_passes_every_check_and_is_published(trained: tuple[Cast, pl.DataFrame], instance):
    """Protects from thresholds that nothing reaches."""
    cast, dataset = trained
    table = cast.evaluate(dataset).table
    assert failing(cast, table) == set()
    assert publish(cast, HERO, instance)


def test_the_lora_of_the_wrong_character_is_found_out(trained: tuple[Cast, pl.DataFrame], instance):
    """Protects from a LoRA that has learnt somebody else, or the style only."""
    cast, _ = trained
    cast.hand_over(OTHER)
    table = cast.evaluate(cast.dataset(OTHER, train_count=24, held_out_count=8, seed=2)).table
    assert "lora_draws_this_character" in failing(cast, table)
    assert not publish(cast, OTHER, instance)


def test_an_untrained_lora_is_found_out(tmp_path: Path, instance):
    """Protects from a LoRA that changes nothing."""
    cast = Cast(tmp_path)
    dataset = cast.dataset(HERO, train_count=4, held_out_count=8, seed=1)
    cast.train(dataset, steps=1, train_batch_size=1, learning_rate=1e-8)
    table = cast.evaluate(dataset).table
    assert "lora_beats_base" in failing(cast, table)
    assert not publish(cast, HERO, instance)


def test_an_overfitted_lora_is_found_out(tmp_path: Path, instance):
    """Protects from a LoRA that draws its one training image again and again; a person may still insist.

    Held-out images show another pose, so that drawing that image is no way to resemble them.
    """
    cast = Cast(tmp_path)
    poses = {"train": {"arms": "up", "expression": "happy", "is_flipped": False}, "held_out": {"arms": "down"}}
    dataset = cast.dataset(HERO, train_count=1, held_out_count=8, seed=51, poses=poses)
    cast.train(dataset, steps=240, train_batch_size=1, learning_rate=4e-3, caption_dropout=0.0, flip=False)
    table = cast.evaluate(dataset).table
    assert failing(cast, table) == {"lora_does_not_copy"}
    assert not publish(cast, HERO, instance)
    assert publish(cast, HERO, instance, despite_failed_checks=True)
