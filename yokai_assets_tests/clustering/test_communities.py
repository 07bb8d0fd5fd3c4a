"""The method for large series: characters found, strangers left out, the same labels every time."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_mutual_info_score

from yokai_assets.clustering import cluster_instances
from yokai_assets.clustering.communities import communities
from yokai_assets.clustering.methods import AUTO_LIMIT, chosen_method
from yokai_assets.clustering.neighbors import cosine_neighbors
from yokai_assets.clustering.whitening import half_whiten
from yokai_assets.settings.model import ClusteringSettings
from yokai_assets_tests.clustering.synthetic import synthetic_series

SETTINGS = ClusteringSettings(method="communities")


@pytest.mark.parametrize("seed", [1, 2])
def test_characters_are_found_and_strangers_are_not(seed: int) -> None:
    """Protects: the promise of the other method holds for this one: every character whole, strangers left out."""
    series = synthetic_series([60] * 8, 80, seed)
    result = cluster_instances(series.vectors, series.frame_ids, SETTINGS, seed=0)
    assert result.method == "communities"
    is_stranger = series.truth == -1
    assert adjusted_mutual_info_score(series.truth[~is_stranger], result.labels[~is_stranger]) > 0.95
    assert (result.labels[is_stranger] == -1).mean() > 0.6
    assert (result.labels[~is_stranger] != -1).mean() > 0.95


def test_what_does_not_cohere_is_no_group() -> None:
    """Protects: strangers are a community of their own, large enough to train, and must not become a character."""
    rng = np.random.default_rng(0)
    series = synthetic_series([60] * 4, 0, 1)
    strangers = rng.normal(size=(200, series.vectors.shape[1])).astype(np.float32)
    strangers /= np.linalg.norm(strangers, axis=1, keepdims=True)
    vectors = half_whiten(np.concatenate([series.vectors, strangers]))
    found = communities(vectors, cosine_neighbors(vectors, 15, 0), SETTINGS, seed=0)
    assert (found.labels[240:] == -1).mean() > 0.95
    assert len(np.unique(found.labels[:240])) == 4
    assert found.probabilities.min() >= 0 and (found.probabilities[found.labels == -1] == 0).all()


def test_equal_arguments_give_equal_labels() -> None:
    """Protects: a run can be repeated to the label, whatever number of threads the machine has."""
    series = synthetic_series([80] * 5, 40, 3)
    first = cluster_instances(series.vectors, series.frame_ids, SETTINGS, seed=3)
    again = cluster_instances(series.vectors, series.frame_ids, SETTINGS, seed=3)
    np.testing.assert_array_equal(first.labels, again.labels)
    assert first.parameters == again.parameters


@pytest.mark.parametrize("total", [0, 1, 2, 7, 40])
def test_tiny_series_are_no_error(total: int) -> None:
    """Protects: chosen for a small series it gives a result, whatever it says."""
    series = synthetic_series([20, 20], 0, dimension=32)
    result = cluster_instances(series.vectors[:total], series.frame_ids[:total], SETTINGS, seed=0)
    assert result.labels.shape == (total,)


def test_the_method_follows_the_size_unless_chosen() -> None:
    """Protects: nobody waits for UMAP on half a million instances, and whoever wants it gets it."""
    assert chosen_method(ClusteringSettings(), AUTO_LIMIT) == "umap_hdbscan"
    assert chosen_method(ClusteringSettings(), AUTO_LIMIT + 1) == "communities"
    assert chosen_method(ClusteringSettings(method="umap_hdbscan"), 10**6) == "umap_hdbscan"
