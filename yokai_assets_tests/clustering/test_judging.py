"""Groups are judged without the truth: good ones pass, mixtures, fragments and chance groups are suspected."""

import numpy as np
import polars as pl
import pytest

from yokai_assets.clustering import cluster_instances, judge_groups
from yokai_assets.clustering import judging as module
from yokai_assets.clustering.judging import GroupJudgement
from yokai_assets.registry.states import doubts_of
from yokai_assets.settings.model import ClusteringSettings
from yokai_assets_tests.clustering.synthetic import SyntheticSeries, synthetic_series

SETTINGS = ClusteringSettings()


@pytest.fixture(scope="module")
def series() -> SyntheticSeries:
    return synthetic_series([60] * 6 + [40], 20, 2)


def judge(series: SyntheticSeries, labels: np.ndarray, **options: object) -> GroupJudgement:
    rare = np.zeros(len(labels), dtype=bool)
    return judge_groups(series.vectors, labels.astype(np.int32), rare, series.frame_ids, SETTINGS, 0, **options)  # pyright: ignore[reportArgumentType]


def test_right_groups_are_beyond_suspicion(series: SyntheticSeries) -> None:
    """Protects: a good clustering raises no alarm; numbers are those of the labels."""
    found = judge(series, series.truth)
    assert found.table["size"].to_list() == [60] * 6 + [40]
    assert found.table["suspicion"].null_count() == 7
    assert (found.table["stability"] > 0.8).all() and (found.table["stray_share"] == 0).all()
    assert (found.table["low_margin"] > 0).all() and (found.table["tightness"] > 0.6).all()
    assert found.noise_share == pytest.approx(20 / 420) and found.silhouette is not None and found.silhouette > 0.15
    assert all(rival != own for own, rival in found.table.select("cluster_label", "rival_label").iter_rows())


def test_two_characters_in_a_group_are_seen(series: SyntheticSeries) -> None:
    """Protects: a LoRA of two characters is not trained: the group is suspected, and not found again."""
    mixed = np.where(series.truth == 6, 0, series.truth)
    found = judge(series, mixed)
    assert found.table["suspicion"].to_list() == ["merge"] + [None] * 5
    assert found.table["halves_linkage"][0] < 0.45
    clusters = pl.DataFrame({"cluster_label": mixed.astype(np.int32)})
    unstable = found.table.with_columns(stability=pl.lit(0.4, pl.Float32))
    doubts = doubts_of(unstable, clusters)
    assert set(doubts) == {0} and doubts[0].state == "provisional" and "40%" in doubts[0].reason
    assert doubts_of(found.table.with_columns(stability=pl.lit(0.9, pl.Float32)), clusters) == {}
    assert doubts_of(unstable, clusters.head(200)) == {}  # groups of another clustering


def test_one_character_in_two_groups_is_seen(series: SyntheticSeries) -> None:
    """Protects: two ids of one character are pointed out, both with each other."""
    halved = np.where((series.truth == 0) & (np.arange(len(series.truth)) % 2 == 0), 7, series.truth)
    found = judge(series, halved)
    suspects = found.table.filter(suspicion="split")
    assert suspects["cluster_label"].to_list() == [0, 7] and suspects["rival_label"].to_list() == [7, 0]


def test_chance_groups_are_not_found_again(series: SyntheticSeries) -> None:
    """Protects: groups that are the luck of the draw do not pass as characters."""
    shuffled = np.random.default_rng(0).permutation(series.truth)
    found = judge(series, shuffled)
    assert (found.table["stability"] < 0.5).all()
    right = judge(series, series.truth)
    assert found.silhouette is not None and right.silhouette is not None and found.silhouette < right.silhouette
    assert found.table["stray_share"].mean() > 0.2  # pyright: ignore[reportOperatorIssue]


def test_scenery_and_pairs_are_seen(series: SyntheticSeries) -> None:
    """Protects: clouds are no LoRA; pairs are shown, but a big head on a thin neck is trained all the same."""
    signs = pl.DataFrame(
        {
            "shot": np.arange(len(series.truth)) % 7,
            "edge_contact_share": np.where(series.truth == 1, 0.5, np.where(series.truth == 3, 0.25, 0.0)),
            "lobe_count": np.where(series.truth == 2, 2, 1),
            "scenery_probability": np.where(series.truth == 4, 0.95, np.where(series.truth == 5, 0.6, 0.1)),
        }
    )
    table = judge(series, series.truth, signs=signs).table
    assert table["suspicion"].to_list() == [None, "scenery", "several", None, "scenery", None, None]
    assert table["shot_count"].to_list() == [7] * 7
    doubts = doubts_of(table, pl.DataFrame({"cluster_label": series.truth.astype(np.int32)}))
    assert set(doubts) == {1, 4} and doubts[1].state == "not_a_character" and "50%" in doubts[1].reason
    assert "by words" in doubts[4].reason and "95%" in doubts[4].reason


def test_stability_of_joined_groups_is_that_of_their_clustering(
    series: SyntheticSeries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects: a new episode does not cost three clusterings of the series."""
    former = judge(series, series.truth)
    monkeypatch.setattr(module, "cluster_instances", None)
    again = judge(series, series.truth, former=former.table)
    assert again.table.equals(former.table)


def test_large_series_are_judged_by_a_sample(series: SyntheticSeries, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects: cost does not grow with the series; groups of whom too few are drawn are not judged at all."""
    sizes: list[int] = []

    def counting(vectors: np.ndarray, *arguments: object, **options: object) -> object:
        sizes.append(len(vectors))
        return cluster_instances(vectors, *arguments, **options)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(module, "cluster_instances", counting)
    monkeypatch.setattr(module, "_SAMPLE", 250)
    found = judge(series, series.truth)
    assert sizes == [200, 200, 200]
    assert found.table["stability"].null_count() >= 1 and (found.table["stability"].drop_nulls() > 0.6).all()


@pytest.mark.parametrize("labels", [[], [-1, -1, -1], [0, 0, 0], [0, 1, -1], [0, 2, 2]])
def test_where_there_is_nothing_to_compare(labels: list[int]) -> None:
    """Protects: no groups, one group, groups of one, a group that is gone: numbers where they mean something."""
    series = synthetic_series([3], 0, dimension=8)
    small = SyntheticSeries(series.vectors[: len(labels)], series.frame_ids[: len(labels)], np.array(labels))
    found = judge(small, np.array(labels, dtype=np.int32))
    assert found.table["cluster_label"].to_list() == sorted({label for label in labels if label >= 0})
    assert found.table["suspicion"].null_count() == found.table.height
