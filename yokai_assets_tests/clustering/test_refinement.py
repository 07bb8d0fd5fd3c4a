import numpy as np
import pytest

from yokai_assets.clustering import refinement
from yokai_assets.clustering.linkage import merge_fragments
from yokai_assets_tests.clustering.clouds import DIMENSION, between, cloud, frames, labels_of, near


def test_outliers_of_a_group_become_noise() -> None:
    """A wrong picture in a tight group goes; an ordinary spread loses next to nobody."""
    vectors = np.vstack([cloud(0, 60), between(0, 5, 0.7), cloud(1, 60)])
    labels = np.array([0] * 61 + [1] * 60, dtype=np.int32)
    refined = refinement.expel_outliers(vectors, labels)
    assert refined[60] == -1
    assert (refined[:60] == 0).sum() >= 58 and (refined[61:] == 1).sum() >= 58


def test_strangers_that_hang_on_a_character_are_let_go_and_an_outfit_is_not() -> None:
    """A projection lays strangers beside whom they name as neighbours; an outfit has ties in itself."""
    strangers = np.vstack([between(0, 5 + n, 0.9) for n in range(20)])
    vectors = np.vstack([cloud(0, 40), cloud(1, 15), strangers])
    refined = refinement.expel_strays(vectors, labels_of(75), near(vectors))
    assert (refined[55:] == -1).all()
    assert (refined[:40] == 0).all() and (refined[40:55] == 0).sum() >= 12


def test_a_rare_character_swallowed_by_a_large_one_is_freed() -> None:
    """Nine pictures alike among themselves, and unlike the sixty they were put with, are nobody's members."""
    vectors = np.vstack([cloud(0, 60), cloud(3, 9)])
    refined = refinement.expel_strangers(vectors, labels_of(69), near(vectors))
    assert (refined[60:] == -1).all() and (refined[:60] == 0).sum() >= 58


def test_a_long_shot_stays_with_its_character() -> None:
    """Twenty nearly equal pictures that only name each other are still inside their character's spread."""
    character = cloud(0, 60)
    shot = character[:1] + np.random.default_rng(5).normal(size=(20, DIMENSION)).astype(np.float32) * 0.005
    vectors = np.vstack([character, shot / np.linalg.norm(shot, axis=1, keepdims=True)])
    refined = refinement.expel_strangers(vectors, labels_of(80), near(vectors))
    assert (refined[60:] == 0).all()


def test_noise_joins_the_group_its_neighbours_agree_on() -> None:
    """What the method was too careful to take is taken; what stands between two groups is not."""
    vectors = np.vstack([cloud(0, 50), cloud(1, 50), between(0, 1, 0.5), between(9, 10, 0.5)])
    labels = np.append(labels_of(50, 50), [-1, -1]).astype(np.int32)
    labels[[3, 60]] = -1
    adopted, votes = refinement.adopt_noise(vectors, labels, near(vectors))
    assert adopted[3] == 0 and adopted[60] == 1
    assert adopted[100] == adopted[101] == -1
    assert votes[3] >= 0.7 and votes[100] == 0.0


def test_only_groups_in_the_full_space_are_rare_characters() -> None:
    """Six alike pictures are a rare character; six strangers that a projection put together are not."""
    strangers = np.vstack([between(5 + n, 20 + n, 0.4) for n in range(8)])
    vectors = np.vstack([cloud(0, 40), cloud(1, 8), strangers])
    labels = np.array([0] * 40 + [-1] * 16, dtype=np.int32)
    candidates = np.array([-1] * 40 + [0] * 8 + [1] * 8, dtype=np.int32)
    refined, is_rare = refinement.confirm_rare_groups(labels, candidates, near(vectors), min_size=6)
    assert (refined[40:48] == 1).all() and is_rare[40:48].all()
    assert (refined[48:] == -1).all() and not is_rare[48:].any() and not is_rare[:40].any()


def test_a_frame_shows_a_character_once() -> None:
    """Of two instances of a frame in a group the more typical stays; the other goes where it also fits, or nowhere."""
    vectors = np.vstack([cloud(0, 30), cloud(1, 30), between(0, 9, 0.45)])
    labels = np.append(labels_of(30, 30), 0).astype(np.int32)
    labels[30] = 0  # one of the second cloud sits in the first group
    codes = frames(61)
    codes[30] = codes[60] = codes[0]
    refined = refinement.separate_frame_mates(vectors, labels, near(vectors), codes)
    assert refined[0] == 0 and refined[30] == 1 and refined[60] == -1


def test_groups_are_numbered_by_size() -> None:
    """Equal input, equal labels: largest first, ties by the earliest member."""
    labels = np.array([5, 5, 2, 2, -1, 9, 9, 9], dtype=np.int32)
    np.testing.assert_array_equal(refinement.number_by_size(labels), [1, 1, 2, 2, -1, 0, 0, 0])
    np.testing.assert_array_equal(refinement.drop_small_groups(labels, 3), [-1, -1, -1, -1, -1, 0, 0, 0])


def test_a_group_of_strangers_is_no_group() -> None:
    """Protects: what density gathers of those who are like nobody does not become the largest character."""
    strangers = np.random.default_rng(0).normal(size=(100, DIMENSION))
    strangers /= np.linalg.norm(strangers, axis=1, keepdims=True)
    vectors = np.concatenate([cloud(0, 40), cloud(1, 40), cloud(2, 40), strangers.astype(np.float32)])
    labels = labels_of(40, 40, 40, 100)
    found = refinement.drop_incoherent(vectors, vectors, labels, frames(220))
    assert found.tolist() == [0] * 40 + [1] * 40 + [2] * 40 + [-1] * 100
    nobody = np.full(220, -1, np.int32)
    assert refinement.drop_incoherent(vectors, vectors, nobody, frames(220)).tolist() == nobody.tolist()
    kept = labels_of(40, 40, 40)
    assert refinement.drop_incoherent(vectors[:120], vectors[:120], kept, frames(120)).tolist() == kept.tolist()


def test_one_measure_alone_drops_nobody() -> None:
    """Protects: a handful of characters, in whom whitening leaves little; a series of one character."""
    vectors = np.concatenate([cloud(0, 40), cloud(1, 40), cloud(2, 40)])
    labels = labels_of(40, 40, 40)
    whitened = np.random.default_rng(1).normal(size=vectors.shape).astype(np.float32)
    whitened /= np.linalg.norm(whitened, axis=1, keepdims=True)
    assert refinement.drop_incoherent(vectors, whitened, labels, frames(120)).tolist() == labels.tolist()
    alone = np.zeros(120, np.int32)
    assert refinement.drop_incoherent(whitened, whitened, alone, frames(120)).tolist() == alone.tolist()


@pytest.mark.parametrize("size", [0, 1, 4])
def test_refinement_of_noise_alone(size: int) -> None:
    """Nothing to refine is no error."""
    vectors, labels = cloud(0, size), np.full(size, -1, dtype=np.int32)
    neighbors, codes = near(vectors), frames(size)
    for refined in (
        refinement.expel_outliers(vectors, labels),
        refinement.expel_strays(vectors, labels, neighbors),
        refinement.expel_strangers(vectors, labels, neighbors),
        merge_fragments(vectors, labels, codes),
        refinement.adopt_noise(vectors, labels, neighbors)[0],
        refinement.separate_frame_mates(vectors, labels, neighbors, codes),
        refinement.number_by_size(labels),
        refinement.drop_small_groups(labels, 3),
    ):
        np.testing.assert_array_equal(refined, labels)
