"""Choosing training images: bad ones out with the right reason, no near-duplicates, variety, whole shots held out."""

from collections import Counter

import numpy as np
import polars as pl
import pytest
from upath import UPath

from yokai_assets.datasets import selection
from yokai_assets.datasets.selection import REASONS, QualityLimits, Selection
from yokai_assets.datasets.split import HeldOut, hold_out
from yokai_assets_tests.small_series import HERO, OTHER, SmallSeries, scattered, unit

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
    series.show("e1", 56, {HERO: scattered(56)}, lobe_count=2)
    series.show("e1", 52, {HERO: scattered(52)}, boxes={HERO: (0, 0, 96, 22)})
    series.show("e1", 53, {HERO: scattered(53)}, sharpness=5.0)
    series.show("e1", 54, {HERO: scattered(54)})
    series.members[-1]["centroid_cosine"] = 0.1
    series.show("e1", 55, {HERO: scattered(55)})
    series.embeddings.pop()
    passed = selection.passing_quality(chosen(series), 22, LIMITS)
    faults = ("too_small", "cut_off", "several_figures", "extreme_aspect", "blurred", "atypical", "no_instance")
    assert passed.counts == Counter(dict.fromkeys(faults, 1))
    assert passed.rows.height == len(passed.vectors) == 20
    assert set(passed.dropped.values()) <= set(REASONS)


def test_strangers_and_the_hidden_are_left_out(tmp_path) -> None:
    """Protects: what looks like another character, what another stands before, and what a person does not want."""
    series = SmallSeries(UPath(tmp_path))
    for number in range(12):
        series.show("e1", number, {HERO: scattered(number)})
    rival = unit(scattered(0) * -1 + scattered(99))
    planted = f"{series.show('e1', 30, {HERO: unit(rival + 0.3 * scattered(4))})}/0"
    hidden = series.show("e1", 31, {HERO: scattered(31), OTHER: rival}, boxes={OTHER: (20, 12, 60, 52)})
    beside = series.show("e1", 32, {HERO: scattered(32), OTHER: rival}, boxes={OTHER: (40, 12, 80, 52)})
    tables = series.tables()
    rivals = np.stack([rival, unit(scattered(7, spread=3.0))])
    found = selection.candidates(HERO, tables.members, tables.instances, tables.embeddings, rivals)
    margins = dict(found.rows.select("instance_id", "identity_margin").iter_rows())
    assert margins[planted] < 0 < min(margin for name, margin in margins.items() if name != planted)
    unwanted = found.rows.filter(instance_id="e1/000003/0")["cutout_sha256"][0]
    passed = selection.passing_quality(found, 22, LIMITS, removed=[unwanted])
    assert passed.dropped == {
        planted: "other_character", f"{hidden}/0": "overlapped", "e1/000003/0": "removed"
    }  # fmt: skip
    assert f"{beside}/0" in passed.rows["instance_id"].to_list()


def test_characters_alone_in_a_series_have_no_margin(tmp_path) -> None:
    """Protects: where there is nobody to be taken for, nobody is."""
    series = SmallSeries(UPath(tmp_path))
    for number in range(6):
        series.show("e1", number, {HERO: scattered(number)})
    assert chosen(series).rows["identity_margin"].null_count() == 6
    assert selection.passing_quality(chosen(series), 8, LIMITS).rows.height == 6


def test_subset_is_even_over_looks_as_far_as_episodes_allow(tmp_path) -> None:
    """Protects: a rare outfit and a rare view are in the set, and are no reason to forget an episode."""
    count = 120
    episodes = np.repeat(["e1", "e2"], 60)
    outfits = np.where((np.arange(count) % 60) < 6, 1, 0)
    views = np.where(np.arange(count) % 10 == 9, "back", "front")
    rows = pl.DataFrame({"episode": episodes, "instance_id": [str(n) for n in range(count)]})
    rows = rows.with_columns(outfit=outfits, view=pl.Series(views), framing=pl.lit("whole"))
    vectors = np.stack([scattered(number) for number in range(count)])
    plain = selection.diverse(Selection(rows, vectors), 24).rows
    even = selection.diverse(Selection(rows, vectors), 24, ("outfit", "view", "framing")).rows
    for subset in (plain, even):
        assert dict(subset.group_by("episode").len().iter_rows()) == {"e1": 12, "e2": 12}
    assert even.filter(outfit=1).height >= 10 > 2 * plain.filter(outfit=1).height
    assert even.filter(view="back").height >= 10 > plain.filter(view="back").height


@pytest.mark.parametrize(
    ("box", "expected"), [((9, 9, 40, 60), "whole"), ((9, 30, 40, 64), "part"), ((9, 2, 60, 64), "close")]
)
def test_framing_is_read_off_the_box(tmp_path, box: tuple[int, int, int, int], expected: str) -> None:
    """Protects: close-ups and whole figures are told apart without asking a model."""
    series = SmallSeries(UPath(tmp_path))
    series.show("e1", 0, {HERO: scattered(0)}, boxes={HERO: box})
    assert selection.framing(series.tables().instances).to_list() == [expected]


def test_near_duplicates_in_a_finished_set_are_found() -> None:
    """Protects: the check finds what the selection should have left out, on both sides of the split."""
    vectors = [scattered(number) for number in range(10)]
    vectors += [unit(vectors[2] + 0.005 * scattered(50))]
    rows = pl.DataFrame(
        {
            "image": [f"{n}.png" for n in range(11)],
            "split": ["train"] * 10 + ["held_out"],
            "image_sha256": [str(n) for n in range(9)] + ["0", "10"],
            "vector": pl.Series(np.stack(vectors), dtype=pl.Array(pl.Float32, len(vectors[0]))),
        }
    )
    pairs = selection.near_duplicate_pairs(rows).select("image", "split", "other_image", "other_split").rows()
    assert pairs == [("2.png", "train", "10.png", "held_out"), ("0.png", "train", "9.png", "train")]
    assert (
        selection.near_duplicate_pairs(rows.head(9)).is_empty()
        and selection.near_duplicate_pairs(rows.clear()).is_empty()
    )


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
    assert kept.counts["near_duplicate"] == 1
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


def test_an_image_without_a_cosine_spoils_no_other(tmp_path) -> None:
    """Protects: one damaged value does not make every image atypical."""
    series = SmallSeries(UPath(tmp_path))
    for number in range(20):
        series.show("e1", number, {HERO: scattered(number)})
    found = chosen(series)
    rows = found.rows.with_columns(
        centroid_cosine=pl.when(pl.int_range(pl.len()) == 3).then(None).otherwise("centroid_cosine")
    )
    assert selection.passing_quality(Selection(rows, found.vectors), 8, LIMITS).rows.height == 20


def test_subset_is_even_over_episodes(tmp_path) -> None:
    """Protects: a long episode does not decide how the character looks."""
    series = SmallSeries(UPath(tmp_path))
    for number in range(24):
        series.show("e1" if number < 20 else "e2", number, {HERO: scattered(number)})
    subset = selection.diverse(chosen(series), 8)
    assert dict(subset.rows.group_by("episode").len().iter_rows()) == {"e1": 4, "e2": 4}
    assert subset.counts["not_selected"] == 16


def test_large_characters_are_bounded_before_distances_are_computed() -> None:
    """Protects: the leading character of a million frames does not need a terabyte."""
    count = 30_000
    rows = pl.DataFrame({"episode": ["e"] * count, "shot": (np.arange(count) // 3).tolist(), "n": range(count)})
    rows = rows.with_columns(instance_id=pl.col("n").cast(pl.String))
    pool = selection.within_pool(Selection(rows, np.zeros((count, 4), np.float32)), 5000)
    assert pool.rows.height == len(pool.vectors) == 5000
    assert pool.rows.group_by("shot").len()["len"].max() == 1
    assert pool.counts["not_selected"] == 25_000


def test_bounding_is_even_over_episodes_and_takes_the_best_of_each_shot() -> None:
    """Protects: with more shots than places, the later episodes of a long series are not left out."""
    episodes = np.repeat(np.arange(200), 300)
    rows = pl.DataFrame({"episode": episodes, "shot": np.tile(np.arange(300) // 3, 200), "n": np.arange(60_000)})
    rows = rows.with_columns(instance_id=pl.col("n").cast(pl.String))
    pool = selection.within_pool(Selection(rows, np.zeros((60_000, 2), np.float32)), 5000)
    assert pool.rows.group_by("episode").len()["len"].to_list() == [25] * 200
    assert (pool.rows["n"] % 3 == 0).all()


def test_more_episodes_than_images_are_spread_over_the_series() -> None:
    """Protects: a training set of a long series is not the character as it looked in the first episodes."""
    vectors = np.stack([scattered(number) for number in range(214)])
    names = [f"e{number:03d}" for number in range(214)]
    rows = pl.DataFrame({"episode": names, "instance_id": names})
    kept = selection.diverse(Selection(rows, vectors), 30).rows["episode"].str.slice(1).cast(pl.Int32)
    assert kept.len() == 30
    assert max(np.diff(sorted(kept))) < 20


def test_tiny_images_are_taken_only_where_larger_ones_are_missing(tmp_path) -> None:
    """Protects: pictures without detail, which differ from all others, do not fill a diverse subset."""
    series = SmallSeries(UPath(tmp_path))
    for number in range(9):
        box = (10, 10, 18, 18) if number < 3 else (10, 10, 50, 50)
        series.show("e1", number, {HERO: scattered(number)}, boxes={HERO: box})
    kept = selection.large_enough(chosen(series), 6, 64, LIMITS)
    assert (kept.rows["x1"] == 50).all()
    assert kept.counts == {"low_resolution": 3}
    assert selection.large_enough(chosen(series), 7, 64, LIMITS).rows.height == 9
    assert selection.large_enough(chosen(series), 6, 32, LIMITS).rows.height == 9


def split(shots: list[int] | np.ndarray, share: float, min_training_images: int = 10, seed: int = 0) -> HeldOut:
    numbers = np.asarray(shots, int)
    return hold_out(numbers, np.arange(len(numbers)), share, min_training_images, np.random.default_rng(seed))


def test_whole_shots_are_held_out() -> None:
    """Protects: no frame beside a training image is judged with; chance decides which shots."""
    shots = np.repeat(np.arange(20), 4)
    held = split(shots, 0.15)
    assert len(set(shots[held.positions])) == 3
    assert len(held.positions) == 12
    assert not set(shots[held.positions]) & set(np.delete(shots, held.positions))
    assert held.torn_shot is None
    assert len({tuple(split(shots, 0.15, seed=seed).positions) for seed in range(8)}) > 4


@pytest.mark.parametrize("seed", range(12))
def test_one_long_shot_is_not_swallowed(seed: int) -> None:
    """Protects: the share is one of images; a shot with most of them is never held out for being drawn."""
    shots = [0] * 60 + [1 + number // 4 for number in range(40)]
    held = split(shots, 0.15, seed=seed)
    assert held.torn_shot is None
    assert len(held.positions) == 16
    assert min(held.positions) >= 60


@pytest.mark.parametrize("seed", range(4))
def test_nearest_set_of_shots_is_found(seed: int) -> None:
    """Protects: shots of odd lengths are put together to the share where they can be."""
    assert len(split(np.repeat(np.arange(5), [41, 23, 13, 11, 7]), 0.21, seed=seed).positions) == 20


def test_end_of_the_longest_shot_where_no_whole_shots_will_do() -> None:
    """Protects: there is something to judge by, all of one piece of time, and it is told which shot was torn."""
    frame_indexes = np.random.default_rng(3).permutation(100)
    shots = np.where(frame_indexes < 60, 4, np.where(frame_indexes < 99, 7, 9))
    held = hold_out(shots, frame_indexes, 0.15, 10, np.random.default_rng(0))
    assert held.torn_shot == 4
    assert sorted(frame_indexes[held.positions]) == list(range(45, 60))
    assert len(split([3] * 20, 0.15).positions) == 3


@pytest.mark.parametrize("share", [0.01, 0.15, 0.5, 1.0])
def test_at_least_two_images_and_never_all(share: float) -> None:
    """Protects: something to judge by, and something to train on."""
    assert 2 <= len(split(np.arange(30), share).positions) <= 20


@pytest.mark.parametrize("sizes", [[8, 2, 2], [8, 3], [30, 5], [6, 6]])
def test_training_keeps_the_images_it_needs(sizes: list[int]) -> None:
    """Protects: holding out does not make a character too small that was large enough."""
    shots = np.repeat(np.arange(len(sizes)), sizes)
    assert len(shots) - len(split(shots, 0.5).positions) >= 10


@pytest.mark.parametrize(("shots", "share"), [([0, 1, 2], 0.0), ([], 0.3), ([4], 0.9), ([1, 2], 0.5), ([0] * 11, 0.3)])
def test_nothing_to_hold_out(shots: list[int], share: float) -> None:
    """Protects: nothing is taken that training cannot do without."""
    held = split(shots, share)
    assert held.positions.tolist() == []
    assert held.torn_shot is None


def test_small_character_still_has_something_held_out() -> None:
    """Protects: a character below the minimum can be judged, should somebody lower the minimum."""
    assert 2 <= len(split([0, 0, 0, 1, 2], 0.2).positions) < 5


def test_split_is_the_same_every_time() -> None:
    """Protects: images do not wander between training and judging from run to run."""
    shots = np.repeat(np.arange(50), 3)
    assert split(shots, 0.2).positions.tolist() == split(shots, 0.2).positions.tolist()


def test_no_members_give_an_empty_selection(tmp_path) -> None:
    """Protects: a retired character does not stop a run."""
    series = SmallSeries(UPath(tmp_path))
    series.show("e1", 0, {"cluster_007": scattered(0)})
    empty = selection.passing_quality(chosen(series), 8, LIMITS)
    assert empty.rows.is_empty()
    assert selection.diverse(selection.without_near_duplicates(empty, LIMITS), 5).rows.is_empty()
