"""Pieces of one character are joined, and nobody else is."""

import numpy as np

from yokai_assets.clustering.linkage import merge_fragments
from yokai_assets_tests.clustering.clouds import between, cloud, frames, labels_of


def test_fragments_of_one_cloud_are_joined() -> None:
    """A method that cuts one character in two is mended."""
    vectors = np.vstack([cloud(0, 80), cloud(1, 40)])
    cut = np.where(np.arange(120) >= 80, 2, np.random.default_rng(0).integers(2, size=120)).astype(np.int32)
    joined = merge_fragments(vectors, cut, frames(120))
    assert len(set(joined[:80])) == 1 and len(set(joined[80:])) == 1 and joined[0] != joined[-1]


def test_shots_of_one_character_are_joined() -> None:
    """Shots, each denser in itself than it is near the next, are one character if other characters are far."""
    vectors = np.vstack(
        [between(0, 1, 0.2) + 0.1 * cloud(5, 30), between(0, 1, 0.4) + 0.1 * cloud(6, 30), cloud(2, 40)]
    )
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    frame_codes = np.concatenate([np.arange(60), np.arange(40)])  # the third character appears with the first two
    joined = merge_fragments(vectors, labels_of(30, 30, 40), frame_codes)
    np.testing.assert_array_equal(joined, labels_of(60, 40))


def test_groups_seen_in_one_frame_are_not_joined() -> None:
    """Twins who appear together are two characters, however mixed their vectors are."""
    vectors = cloud(0, 80)
    cut = np.random.default_rng(0).integers(2, size=80).astype(np.int32)
    together = np.empty(80, dtype=np.int64)
    for label in (0, 1):
        together[cut == label] = np.arange((cut == label).sum())
    joined = merge_fragments(vectors, cut, together)
    np.testing.assert_array_equal(joined, cut)


def test_neighbouring_characters_are_not_joined() -> None:
    """Two clouds that touch are two characters; so are two outfits far apart."""
    vectors = np.vstack([cloud(0, 50), cloud(1, 50)])
    vectors = vectors + 0.8  # a common cone, as CLIP vectors have: centroids are then alike
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    joined = merge_fragments(vectors, labels_of(50, 50), frames(100))
    np.testing.assert_array_equal(joined, labels_of(50, 50))
