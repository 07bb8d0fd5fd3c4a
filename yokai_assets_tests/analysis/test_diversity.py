"""Choosing few of many: even, diverse, the same every time."""

import numpy as np
import pytest

from yokai_assets.analysis.diversity import balanced_sample, even_quotas, farthest_first, medoids
from yokai_assets_tests.small_series import unit


@pytest.mark.parametrize(
    ("available", "total", "expected"),
    [
        ([10, 10, 10], 6, [2, 2, 2]),
        ([1, 10, 10], 9, [1, 4, 4]),
        ([5, 5], 3, [2, 1]),
        ([2, 3], 99, [2, 3]),
        ([0, 4], 2, [0, 2]),
        ([], 4, []),
        ([100] * 214, 200, [1] * 200 + [0] * 14),
    ],
)
def test_quotas_are_as_even_as_possible(available: list[int], total: int, expected: list[int]) -> None:
    """Protects: an episode with many images does not crowd out the others."""
    assert even_quotas(np.array(available), total).tolist() == expected


def directions(count: int, seed: int = 0) -> np.ndarray:
    return np.stack([unit(v) for v in np.random.default_rng(seed).normal(size=(count, 8))])


def test_farthest_first_finds_every_kind() -> None:
    """Protects: variety; three clusters of very different size all are represented by three choices."""
    axes = np.eye(8, dtype=np.float32)
    rng = np.random.default_rng(0)
    vectors = np.stack([unit(axes[k] + 0.01 * rng.normal(size=8)) for k in [0] * 50 + [1] * 5 + [2]])
    assert {int(np.argmax(vectors[i])) for i in farthest_first(vectors, 3)} == {0, 1, 2}


def test_farthest_first_keeps_quotas_and_repeats_itself() -> None:
    """Protects: balance over episodes, and equal datasets from equal input."""
    vectors = directions(40)
    groups = np.array([0] * 30 + [1] * 10)
    chosen = farthest_first(vectors, 10, [groups])
    assert np.bincount(groups[chosen]).tolist() == [5, 5]
    assert len(set(chosen)) == 10
    assert chosen == farthest_first(vectors, 10, [groups])


def test_fewer_than_wanted_are_all_taken() -> None:
    """Protects: a small character keeps all it has."""
    assert sorted(farthest_first(directions(3), 10)) == [0, 1, 2]
    assert farthest_first(np.zeros((0, 8)), 10) == []


def test_balanced_sample_draws_evenly_and_without_repetition() -> None:
    """Protects: a trait is not read off one long scene only."""
    groups = np.array([7] * 90 + [9] * 10)
    drawn = balanced_sample(groups, 20, np.random.default_rng(0))
    assert len(set(drawn.tolist())) == 20
    assert np.bincount(groups[drawn])[[7, 9]].tolist() == [10, 10]
    many = balanced_sample(np.repeat(np.arange(214), 3), 64, np.random.default_rng(0)) // 3
    assert len(set(many.tolist())) == 64
    assert (many > 107).sum() > 16
    assert balanced_sample(np.array([], int), 5, np.random.default_rng(0)).tolist() == []


def test_medoids_stand_for_groups() -> None:
    """Protects: a montage shows every look of a character, the usual one first, and no freak in place of a look."""
    rng = np.random.default_rng(1)
    looks = np.eye(3, 16)[np.repeat([0, 1, 2], [30, 12, 5])]
    vectors = unit(looks + 0.08 * rng.normal(size=(47, 16)))
    found = medoids(vectors, 3)
    assert [np.digitize(place, [30, 42]) for place in found] == [0, 1, 2]
    for place, (first, last) in zip(found, ((0, 30), (30, 42), (42, 47)), strict=True):
        own = vectors[first:last]
        assert place - first == int((own @ own.T).sum(axis=1).argmax())
    assert medoids(vectors[:2], 5) in ([0, 1], [1, 0]) and medoids(vectors[:0], 3) == []
    assert len(medoids(np.ones((4, 8)) / np.sqrt(8), 3)) == 3
