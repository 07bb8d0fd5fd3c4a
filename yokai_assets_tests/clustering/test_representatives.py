"""A pose that is held is one sight of a character, however many frames it fills."""

import numpy as np
import pytest

from yokai_assets.clustering import cluster_instances
from yokai_assets.clustering.representatives import pools_of, representatives_of
from yokai_assets.settings.model import ClusteringSettings
from yokai_assets_tests.clustering.synthetic import synthetic_series

HELD = 60


def held_series(seed: int) -> tuple[np.ndarray, list[str], np.ndarray, np.ndarray]:
    """Five characters, each of which holds three of its poses for 60 frames: vectors, frames, truth, pools."""
    series = synthetic_series([50] * 5, 30, seed)
    rng = np.random.default_rng(seed)
    vectors, truth = [series.vectors], [series.truth]
    frames, shots = list(series.frame_ids), list(series.frame_ids)
    for character in range(5):
        for row in np.flatnonzero(series.truth == character)[:3]:
            still = series.vectors[row] + rng.normal(size=(HELD, series.vectors.shape[1])) * 0.006
            vectors.append(still / np.linalg.norm(still, axis=1, keepdims=True))
            truth.append(np.full(HELD, character))
            frames += [f"held {row}/{number:06d}" for number in range(HELD)]
            shots += [series.frame_ids[row]] * HELD
    return np.concatenate(vectors).astype(np.float32), frames, np.concatenate(truth), pools_of(shots, frames, {})


@pytest.mark.parametrize("seed", [0, 1])
def test_held_poses_are_no_characters(seed: int) -> None:
    """Protects: without collapsing, each of fifteen stills becomes a group of its own beside the five characters."""
    vectors, frames, truth, pools = held_series(seed)
    found = cluster_instances(vectors, frames, ClusteringSettings(), 0, pools=pools)
    assert found.labels.max() == 4
    for character in range(5):
        own = found.labels[truth == character]
        assert (own == np.bincount(own[own >= 0]).argmax()).mean() > 0.9
    collapsed = found.stands_for != np.arange(len(vectors))
    assert collapsed.sum() == 15 * HELD
    assert (found.labels[collapsed] == found.labels[found.stands_for[collapsed]]).mean() > 0.99
    # What it protects from, so that nobody takes collapsing for an economy.
    assert cluster_instances(vectors, frames, ClusteringSettings(), 0).labels.max() >= 15


def test_only_a_pool_is_collapsed_and_chains_do_not_drift() -> None:
    """Protects: equal looks in different shots both count; a slow turn is not one sight from first to last."""
    turn = np.stack([[np.cos(angle), np.sin(angle)] for angle in np.linspace(0, np.pi / 2, 31)]).astype(np.float32)
    stands = representatives_of(turn, np.zeros(31, np.int32))
    assert (np.einsum("nd,nd->n", turn, turn[stands]) >= 0.9).all()
    assert len(np.unique(stands)) > 2
    same = np.repeat(turn[:1], 4, axis=0)
    assert representatives_of(same, np.array([0, 0, 1, 1])).tolist() == [0, 0, 2, 2]


def test_a_repeated_picture_joins_the_pool_of_its_first_showing() -> None:
    """Protects: an opening that 214 episodes share is seen once."""
    pools = pools_of(["a/1", "a/1", "b/7", "b/8"], ["a/0", "a/1", "b/0", "b/1"], {"b/0": "a/1", "b/1": "z/9"})
    assert pools[0] == pools[1] == pools[2] != pools[3]


def test_expanding_leaves_one_instance_a_frame() -> None:
    """Protects: two instances of a frame that stood back for the same one do not both become members."""
    vectors, frames, _, pools = held_series(0)
    frames[-1] = frames[-2]
    labels = cluster_instances(vectors, frames, ClusteringSettings(), 0, pools=pools).labels
    assert sorted(labels[-2:] == -1) == [False, True]
