"""New episodes join the groups there are; everything is clustered anew when it must be, and says why."""

import numpy as np
import polars as pl
import pytest

from yokai_assets.clustering import update_groups
from yokai_assets.clustering.joining import join_groups
from yokai_assets.settings.model import ClusteringSettings
from yokai_assets.storage.vectors import VectorIndex
from yokai_assets.tables import CLUSTERS
from yokai_assets_tests.clustering.synthetic import SyntheticSeries, synthetic_series

SETTINGS = ClusteringSettings()


def index_of(series: SyntheticSeries, rows: np.ndarray) -> VectorIndex:
    frame = pl.DataFrame(
        {
            "instance_id": [f"{series.frame_ids[row]}/{row}" for row in rows],
            "frame_id": [series.frame_ids[row] for row in rows],
            "shot": [series.frame_ids[row] for row in rows],
            "episode": ["e01"] * len(rows),
            "cutout_sha256": [f"{row:064d}" for row in rows],
            "model_fingerprint": ["m"] * len(rows),
            "vector": pl.Series(series.vectors[rows], dtype=pl.Array(pl.Float32, series.vectors.shape[1])),
        }
    )
    return VectorIndex(frame.sort("instance_id"))


def truth_of(series: SyntheticSeries, table: pl.DataFrame) -> np.ndarray:
    return series.truth[[int(name.rpartition("/")[2]) for name in table["instance_id"]]]


@pytest.fixture(scope="module")
def series() -> SyntheticSeries:
    return synthetic_series([80] * 5, 30, 3)


@pytest.fixture(scope="module")
def known(series: SyntheticSeries) -> pl.DataFrame:
    """Groups of the first nine tenths."""
    found = update_groups(
        index_of(series, np.arange(390)), CLUSTERS.empty(), SETTINGS, 0, repeat_of={}, full_reason=None
    )
    assert found.full_reason == "there are no groups yet" and not found.table["is_joined"].any()
    return found.table


def update(series: SyntheticSeries, known: pl.DataFrame, rows: np.ndarray, **options: object):
    arguments = {"repeat_of": {}, "full_reason": None} | options
    return update_groups(index_of(series, rows), known, SETTINGS, 0, **arguments)  # pyright: ignore[reportArgumentType]


def test_new_instances_join_and_no_known_one_moves(series: SyntheticSeries, known: pl.DataFrame) -> None:
    """Protects: a new episode is at home at once, and not one id moves for it."""
    found = update(series, known, np.arange(430))
    assert found.full_reason is None
    both = known.join(found.table, on="instance_id", suffix="_now")
    assert both.height == 390 and (both["cluster_label"] == both["cluster_label_now"]).all()
    new = found.table.filter("is_joined")
    truth, labels = truth_of(series, new), new["cluster_label"].to_numpy()
    group_of = {
        character: np.bincount(own[own >= 0]).argmax()
        for character in range(5)
        if len(own := known["cluster_label"].to_numpy()[truth_of(series, known) == character])
    }
    joined = labels >= 0
    assert joined[truth >= 0].mean() > 0.8 and not joined[truth < 0].any()
    assert [group_of[t] for t in truth[joined]] == labels[joined].tolist()
    assert found.joined_count == joined.sum()


def test_nothing_new_changes_nothing(series: SyntheticSeries, known: pl.DataFrame) -> None:
    """Protects: a second run of the same series is the same table, to the row."""
    assert update(series, known, np.arange(390)).table.equals(known)


def test_strangers_wait_until_they_are_too_many(series: SyntheticSeries, known: pl.DataFrame) -> None:
    """Protects: a character that is new in new episodes is found without waiting for the night."""
    newcomer = synthetic_series([30], 0, 77)
    both = SyntheticSeries(
        np.concatenate([series.vectors[:390], newcomer.vectors]),
        [*series.frame_ids[:390], *(f"n{name}" for name in newcomer.frame_ids)],
        np.concatenate([series.truth[:390], np.full(30, 5)]),
    )
    few = update(both, known, np.arange(400))
    assert few.full_reason is None and 0 < few.waiting_share <= 0.05
    again = update(both, few.table, np.arange(400))
    assert again.waiting_share == few.waiting_share and again.table.equals(few.table)
    many = update(both, few.table, np.arange(420))
    assert many.full_reason is not None and "belong to no group" in many.full_reason
    assert len(set(many.table["cluster_label"].to_numpy()[truth_of(both, many.table) == 5])) <= 2


def test_lost_instances_and_new_pixels_demand_a_clustering(series: SyntheticSeries, known: pl.DataFrame) -> None:
    """Protects: groups do not go on standing on instances that are no more, or that look different now."""
    fewer = update(series, known, np.arange(330))
    assert fewer.full_reason is not None and "gone or were cut anew" in fewer.full_reason
    cut_anew = known.with_columns(
        cutout_sha256=pl.when(pl.int_range(pl.len()) < 60).then(pl.lit("old")).otherwise("cutout_sha256")
    )
    found = update(series, cut_anew, np.arange(390))
    assert found.full_reason is not None and "cut anew" in found.full_reason
    assert update(series, known, np.arange(390), full_reason="asked for").full_reason == "asked for"


def test_one_instance_of_a_frame_joins() -> None:
    """Protects: no character is twice in a picture, among the new nor beside the known."""
    series = synthetic_series([60, 60], 0, 5)
    labels = series.truth.astype(np.int32)
    is_new = np.arange(120) >= 100
    same = series.truth[100:] == 0
    frames = np.arange(120)
    frames[100:] = np.where(same, 7000, frames[100:])
    joined = join_groups(series.vectors, np.where(is_new, -1, labels), is_new, frames)
    assert (joined.labels[same] == 0).sum() == 1
    known_mate = np.flatnonzero(labels[:100] == 0)[0]
    frames[100:] = np.where(same, known_mate, frames[100:])
    assert (join_groups(series.vectors, np.where(is_new, -1, labels), is_new, frames).labels[same] == -1).all()
