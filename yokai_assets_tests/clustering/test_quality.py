import numpy as np
import pytest

from yokai_assets.clustering import assess_clustering
from yokai_assets.clustering import quality as module
from yokai_assets_tests.clustering.synthetic import synthetic_series


def test_numbers_are_those_of_the_labels() -> None:
    """The check and the report read these."""
    series = synthetic_series([50, 30, 9], 11)
    is_rare = series.truth == 2
    found = assess_clustering(series.vectors, series.truth, 0, is_rare_group=is_rare)
    assert (found.instance_count, found.cluster_count, found.rare_count) == (100, 3, 1)
    assert (found.smallest, found.largest, found.noise_share) == (9, 50, pytest.approx(0.11))
    table = found.clusters
    assert table["cluster_label"].to_list() == [0, 1, 2] and table["size"].to_list() == [50, 30, 9]
    assert table["is_rare_group"].to_list() == [False, False, True]
    assert (table["cohesion"] > 0.7).all() and (table["nearest_cosine"] < 1.0).all()
    assert all(label != own for own, label in table.select("cluster_label", "nearest_label").iter_rows())


def test_silhouette_tells_good_labels_from_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    """Right labels score above shuffled ones, and a sample scores like the whole."""
    series = synthetic_series([150, 150, 150], 0)
    right = assess_clustering(series.vectors, series.truth, 0).silhouette
    shuffled = np.random.default_rng(0).permutation(series.truth)
    wrong = assess_clustering(series.vectors, shuffled, 0).silhouette
    assert right is not None and wrong is not None
    assert right > 0.2 > wrong
    monkeypatch.setattr(module, "SILHOUETTE_SAMPLE", 150)
    sampled = assess_clustering(series.vectors, series.truth, 0).silhouette
    assert sampled == pytest.approx(right, abs=0.05) and sampled != right


@pytest.mark.parametrize("labels", [[], [-1, -1, -1], [0, 0, 0], [0, 1, -1]])
def test_where_there_is_nothing_to_compare(labels: list[int]) -> None:
    """No groups, one group, groups of one: numbers where they mean something, None where not."""
    vectors = synthetic_series([3], 0, dimension=8).vectors[: len(labels)]
    found = assess_clustering(vectors, np.array(labels, dtype=np.int32), 0)
    assert found.silhouette is None
    assert found.cluster_count == len({label for label in labels if label >= 0}) == found.clusters.height
