import numpy as np
import pytest

from yokai_assets.clustering import neighbors as module
from yokai_assets.clustering.neighbors import cosine_neighbors
from yokai_assets.clustering.whitening import half_whiten
from yokai_assets_tests.clustering.synthetic import synthetic_series


def test_neighbours_are_the_nearest_others() -> None:
    """Exact, nearest first, never the instance itself, also where vectors repeat."""
    vectors = synthetic_series([20, 20], 5, dimension=32).vectors
    vectors[7] = vectors[3]
    found = cosine_neighbors(vectors, 6, seed=0)
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -2)
    np.testing.assert_allclose(found.cosines, -np.sort(-similarity, axis=1)[:, :6], atol=1e-6)
    assert (found.indices != np.arange(45)[:, None]).all()
    assert found.indices[7, 0] == 3 and found.indices[3, 0] == 7
    assert found.nearest(2).count == 2 and found.nearest(50).count == 6


@pytest.mark.parametrize(("total", "expected"), [(0, 0), (1, 0), (2, 1), (5, 4)])
def test_few_instances_have_few_neighbours(total: int, expected: int) -> None:
    """A tiny series is no special case for the caller."""
    vectors = synthetic_series([5], 0, dimension=16).vectors[:total]
    found = cosine_neighbors(vectors, 15, seed=0)
    assert found.indices.shape == found.cosines.shape == (total, expected)


def test_large_series_are_searched_approximately(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the exact limit nearly all true neighbours are found, reproducibly, and never the instance itself."""
    vectors = half_whiten(synthetic_series([100] * 4, 30, dimension=64).vectors)
    exact = cosine_neighbors(vectors, 10, seed=0)
    monkeypatch.setattr(module, "EXACT_LIMIT", 100)
    found = cosine_neighbors(vectors, 10, seed=0)
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact.indices, found.indices, strict=True)])
    assert recall > 0.9
    assert (found.indices != np.arange(len(vectors))[:, None]).all()
    assert (np.diff(found.cosines, axis=1) <= 1e-6).all()
    np.testing.assert_array_equal(found.indices, cosine_neighbors(vectors, 10, seed=0).indices)


def test_half_whitening_brings_characters_apart() -> None:
    """What all characters share (the cone, pose, light) counts for less afterwards."""

    def purity(vectors: np.ndarray) -> float:
        near = cosine_neighbors(vectors, 10, seed=0).indices
        return float((series.truth[near] == series.truth[:, None]).mean())

    series = synthetic_series([80] * 5, 0, nuisance=1.0, own_spread=0.6)
    whitened = half_whiten(series.vectors)
    assert purity(whitened) > purity(series.vectors) + 0.1
    assert whitened.dtype == np.float32 and whitened.shape[1] <= 128
    np.testing.assert_allclose(np.linalg.norm(whitened, axis=1), 1.0, atol=1e-5)


def test_half_whitening_of_what_cannot_be_whitened() -> None:
    """Few instances, or all alike, stay as they are; finite always."""
    few = synthetic_series([10], 0).vectors
    alike = np.repeat(few[:1], 50, axis=0)
    assert half_whiten(few) is few and half_whiten(alike) is alike
    assert np.isfinite(half_whiten(np.vstack([alike, few]))).all()
