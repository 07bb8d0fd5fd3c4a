"""Cuts and near-duplicates, on numbers alone."""

import numpy as np

from yokai_assets.frames.duplicates import choose_representatives
from yokai_assets.frames.shots import assign_shots


def hashes(*bits_set: int) -> np.ndarray:
    return np.array([(1 << n) - 1 for n in bits_set], np.uint64)


def test_cut_threshold() -> None:
    """Protects: the setting means bits between neighbours."""
    luma, visible = np.full(3, 100, np.float32), np.ones(3, bool)
    assert assign_shots(hashes(0, 15, 31), luma, visible, 16).tolist() == [0, 0, 1]


def test_a_step_in_light_helps_a_cut() -> None:
    """Protects: a cut between alike compositions is found by light; a flash alone is no cut."""
    luma, visible = np.array([60, 120, 120, 60], np.float32), np.ones(4, bool)
    assert assign_shots(hashes(0, 9, 9, 9), luma, visible, 16).tolist() == [0, 1, 1, 1]


def test_noise_in_black_is_no_cut() -> None:
    """Protects: hashes of black frames, which are noise, split nothing."""
    visible = np.array([True, False, False, False, True])
    assert assign_shots(hashes(0, 40, 3, 50, 0), np.full(5, 50, np.float32), visible, 16).tolist() == [0, 1, 1, 1, 2]


def test_no_frames() -> None:
    """Protects: an episode without a readable frame."""
    empty = np.zeros(0)
    assert assign_shots(empty.astype(np.uint64), empty.astype(np.float32), empty.astype(bool), 16).size == 0
    assert (
        choose_representatives(empty.astype(np.uint64), empty.astype(np.int32), empty.astype(np.float32), 4).size == 0
    )


def test_a_slow_pan_does_not_chain() -> None:
    """Protects: nobody is further from the frame that stands for it than the setting says."""
    pan = hashes(*range(0, 60, 2))
    chosen = choose_representatives(pan, np.zeros(30, np.int32), np.full(30, 50, np.float32), 4)
    assert np.bitwise_count(pan ^ pan[chosen]).max() <= 4
    assert 5 < len(set(chosen.tolist())) < 15


def test_groups_stay_in_their_shot_and_return() -> None:
    """Protects: the same picture in another shot stands for itself; inside a shot A-B-A is two groups."""
    frames = hashes(0, 30, 0, 30, 0)
    shot = np.array([0, 0, 0, 0, 1], np.int32)
    assert choose_representatives(frames, shot, np.full(5, 50, np.float32), 4).tolist() == [0, 1, 0, 1, 4]


def test_contrast_never_breaks_the_distance() -> None:
    """Protects: a sharper frame stands for the group only if all are near to it."""
    frames, deviation = hashes(4, 0, 8), np.array([10, 50, 10], np.float32)
    chosen = choose_representatives(frames, np.zeros(3, np.int32), deviation, 4)
    assert chosen.tolist() == [0, 0, 0]
    assert choose_representatives(frames[:2], np.zeros(2, np.int32), deviation[:2], 4).tolist() == [1, 1]


def test_a_long_episode_is_quick() -> None:
    """Protects: 20,000 frames of one endless shot are grouped without comparing all pairs in Python."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 2**63, 20_000, dtype=np.uint64)
    chosen = choose_representatives(frames, np.zeros(20_000, np.int32), np.full(20_000, 50, np.float32), 4)
    assert len(set(chosen.tolist())) > 19_000
