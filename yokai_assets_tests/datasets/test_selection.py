"""Choosing training images: bad ones out with the right reason, no near-duplicates, variety, whole shots held out."""

from collections import Counter

import numpy as np
import polars as pl
import pytest
from upath import UPath

from yokai_assets.datasets import selection
from yokai_assets.datasets.selection import REASONS, QualityLimits, Selection
from yokai_assets.datasets.split import held_out_positions
from yokai_assets_tests.small_series import HERO, SmallSeries, scattered, unit

LIMITS = QualityLimits()


def chosen(series: SmallSeries) -> Selection:
    tables = series.tables()
    return selection.candidates(HERO, tables.members, tables.instances, tables.embeddings)


def test_each_fault_is_dropped_for_its_reason(tmp_path) -> None:
    """Protects: every image left out is explained, and good ones stay."""
    series = SmallSeries(UPath(tmp_path))
    for number in range(20):
        series.show("e1", number, {HERO: scattered(number)})
    series.show("e1", 50, {HERO: scattered(50)}, boxes={HERO: (0, 0, 30, 20)})
    series.show("e1", 51, {HERO: scattered(51)}, edge_contact_share=0.6)
    series.show("e1", 52, {HERO: scattered(52)}, boxes={HERO: (0, 0, 96, 22)})
    series.show("e1", 53, {HERO: scattered(53)}, sharpness=5.0)
    series.show("e1", 54, {HERO: scattered(54)})
    series.members[-1]["centroid_cosine"] = 0.1
    series.show("e1", 55, {HERO: scattered(55)})
    series.embeddings.pop()
    passed = selection.passing_quality(chosen(series), 22, LIMITS)
    faults = ("too_small", "cut_off", "extreme_aspect", "blurred", "atypical", "no_instance")
    assert passed.dropped == Counter(dict.fromkeys(faults, 1))
    assert passed.rows.height == len(passed.vectors) == 20
    assert set(passed.dropped) <= set(REASONS)


def test_character_that_is_always_soft_keeps_its_images(tmp_path) -> None:
    """Protects: sharpness is measured against the character's own, so a fog spirit can be trained."""
    series = SmallSeries(UPath(tmp_path))
    for number in range(6):
        series.show("e1", number, {HERO: scattered(number)}, sharpness=2.0 + number / 10)
    assert selection.passing_quality(chosen(series), 8, LIMITS).rows.height == 6


def test_near_duplicates_leave_the_better_one(tmp_path) -> None:
    """Protects: held poses do not weigh more than others, and the largest image of a pose is the one trained on."""
    series = SmallSeries(UPath(tmp_path))
    for number in range(8):
        series.show("e1", number, {HERO: scattered(number)}, boxes={HERO: (10, 10, 40, 40)})
    near = unit(scattered(3) + 0.01 * scattered(77))
    better = series.show("e1", 20, {HERO: near}, boxes={HERO: (2, 2, 62, 62)})
    kept = selection.without_near_duplicates(chosen(series), LIMITS)
    assert kept.dropped["near_duplicate"] == 1
    assert f"{better}/0" in kept.rows["instance_id"].to_list()
    assert "e1/000003/0" not in kept.rows["instance_id"].to_list()


def test_equal_pixels_are_duplicates_whatever_the_vectors_say(tmp_path) -> None:
    """Protects: the same cut-out is not trained on twice."""
    series = SmallSeries(UPath(tmp_path))
    for number in range(4):
        series.show("e1", number, {HERO: scattered(number)})
    series.instances[3]["cutout_sha256"] = series.instances[0]["cutout_sha256"]
    assert selection.without_near_duplicates(chosen(series), LIMITS).rows.height == 3


def test_narrow_models_do_not_make_everything_a_duplicate(tmp_path) -> None:
    """Protects: with a model that puts one character's images at cosines of .99, they still are different images."""
    series = SmallSeries(UPath(tmp_path))
    for number in range(10):
        series.show("e1", number, {HERO: scattered(number, spread=0.1)})
    vectors = chosen(series).vectors
    assert (vectors @ vectors.T).min() > 0.98
    assert selection.without_near_duplicates(chosen(series), LIMITS).rows.height == 10


def test_subset_is_even_over_episodes(tmp_path) -> None:
    """Protects: a long episode does not decide how the character looks."""
    series = SmallSeries(UPath(tmp_path))
    for number in range(24):
        series.show("e1" if number < 20 else "e2", number, {HERO: scattered(number)})
    subset = selection.diverse(chosen(series), 8)
    assert dict(subset.rows.group_by("episode").len().iter_rows()) == {"e1": 4, "e2": 4}
    assert subset.dropped["not_selected"] == 16


def test_large_characters_are_bounded_before_distances_are_computed() -> None:
    """Protects: the leading character of a million frames does not need a terabyte."""
    count = 30_000
    rows = pl.DataFrame({"episode": ["e"] * count, "shot": (np.arange(count) // 3).tolist(), "n": range(count)})
    pool = selection.within_pool(Selection(rows, np.zeros((count, 4), np.float32)), 5000, np.random.default_rng(0))
    assert pool.rows.height == len(pool.vectors) == 5000
    assert pool.rows.group_by("shot").len()["len"].max() == 1
    assert pool.dropped["not_selected"] == 25_000


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_whole_shots_are_held_out() -> None:
    """Protects: no frame beside a training image is judged with."""
    shots = np.repeat(np.arange(20), 4)
    held = held_out_positions(shots, 0.15, 10, rng())
    assert len(set(shots[held])) == 3
    assert len(held) == 12
    assert not set(shots[held]) & set(np.delete(shots, held))


@pytest.mark.parametrize("share", [0.01, 0.15, 0.5])
def test_at_least_two_images_and_never_all(share: float) -> None:
    """Protects: something to judge by, and something to train on."""
    held = held_out_positions(np.arange(30), share, 10, rng())
    assert 2 <= len(held) <= 20


def test_training_keeps_the_images_it_needs() -> None:
    """Protects: holding out does not make a character too small that was large enough."""
    shots = np.array([0] * 8 + [1] * 2 + [2] * 2)
    assert len(shots) - len(held_out_positions(shots, 0.5, 10, rng())) >= 10


@pytest.mark.parametrize(("shots", "share"), [([0] * 9, 0.3), ([0, 1, 2], 0.0), ([], 0.3), ([4], 0.9)])
def test_nothing_to_hold_out(shots: list[int], share: float) -> None:
    """Protects: a single shot is not torn apart."""
    assert held_out_positions(np.array(shots, int), share, 10, rng()).tolist() == []


def test_small_character_still_has_something_held_out() -> None:
    """Protects: a character below the minimum can be judged, should somebody lower the minimum."""
    held = held_out_positions(np.array([0, 0, 0, 1, 2]), 0.2, 10, rng())
    assert 2 <= len(held) < 5


def test_split_is_the_same_every_time() -> None:
    """Protects: images do not wander between training and judging from run to run."""
    shots = np.repeat(np.arange(50), 3)
    assert held_out_positions(shots, 0.2, 10, rng()).tolist() == held_out_positions(shots, 0.2, 10, rng()).tolist()


def test_no_members_give_an_empty_selection(tmp_path) -> None:
    """Protects: a retired character does not stop a run."""
    series = SmallSeries(UPath(tmp_path))
    series.show("e1", 0, {"cluster_007": scattered(0)})
    empty = selection.passing_quality(chosen(series), 8, LIMITS)
    assert empty.rows.is_empty()
    assert selection.diverse(selection.without_near_duplicates(empty, LIMITS), 5).rows.is_empty()
