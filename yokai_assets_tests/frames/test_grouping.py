"""Cuts and near-duplicates, on numbers alone."""

import numpy as np
from numpy.typing import NDArray

from yokai_assets.frames.duplicates import choose_representatives, miniature_distances
from yokai_assets.frames.fingerprint import fingerprint_luma
from yokai_assets.frames.shots import cut_shots
from yokai_assets_tests.frames.pictures import scene, with_disc, with_grain

FIELDS = 9 * 16


def hashes(*bits_set: int) -> np.ndarray:
    return np.array([(1 << n) - 1 for n in bits_set], np.uint64)


def flat(count: int) -> NDArray[np.uint8]:
    """Miniatures without structure: nothing can be told from them."""
    return np.full((count, FIELDS), 100, np.uint8)


def shots(dhash: np.ndarray, luma: list[float], visible: list[bool]) -> list[int]:
    return cut_shots(dhash, flat(len(luma)), np.array(luma, np.float32), np.array(visible), 16).shot.tolist()


def representatives(
    dhash: np.ndarray, shot: list[int], deviation: list[float], miniature: NDArray[np.uint8] | None = None
) -> list[int]:
    fields = flat(len(shot)) if miniature is None else miniature
    return choose_representatives(
        dhash, fields, np.array(shot, np.int32), np.array(deviation, np.float32), 4, 10.0
    ).tolist()


def prints_of(pictures: list) -> tuple[np.ndarray, NDArray[np.uint8], np.ndarray]:
    """Hashes, miniatures and luma means of pictures."""
    found = [fingerprint_luma(picture.convert("L")) for picture in pictures]
    fields = np.stack([np.frombuffer(one.miniature, np.uint8) for one in found])
    return np.array([one.dhash for one in found], np.uint64), fields, np.array([one.luma_mean for one in found])


def test_cut_threshold() -> None:
    """Protects: the setting means bits between neighbours."""
    assert shots(hashes(0, 15, 31), [100] * 3, [True] * 3) == [0, 0, 1]


def test_a_step_in_light_helps_a_cut() -> None:
    """Protects: a cut between alike compositions is found by light; a flash alone is no cut."""
    assert shots(hashes(0, 9, 9, 9), [60, 120, 120, 60], [True] * 4) == [0, 1, 1, 1]


def test_noise_in_black_is_no_cut() -> None:
    """Protects: hashes of black frames, which are noise, split nothing."""
    assert shots(hashes(0, 40, 3, 50, 0), [50] * 5, [True, False, False, False, True]) == [0, 1, 1, 1, 2]


def test_a_leap_is_no_cut_but_another_place_is() -> None:
    """Protects: clean plates and held-out shots: somebody big who crosses the frame does not end the shot."""
    place = scene(1, 320, 180)
    leap = [with_disc(place, (80, 120), 60, (250, 250, 250)), with_disc(place, (240, 60), 60, (250, 250, 250))]
    elsewhere = with_disc(scene(2, 320, 180), (240, 60), 60, (250, 250, 250))
    dhash, fields, luma = prints_of([*leap, elsewhere])
    assert np.bitwise_count(dhash[0] ^ dhash[1]) >= 16
    assert cut_shots(dhash, fields, luma.astype(np.float32), np.ones(3, bool), 16).shot.tolist() == [0, 0, 1]


def test_no_frames() -> None:
    """Protects: an episode without a readable frame."""
    none = np.zeros(0, np.uint64)
    assert shots(none, [], []) == []
    assert representatives(none, [], []) == []


def test_somebody_small_is_no_near_duplicate_of_nobody() -> None:
    """Protects: a character too small to change a bit of the hash is not taken for the empty place before her."""
    place = scene(3, 320, 180)
    pictures = [place, with_grain(place, 1), with_disc(place, (160, 90), 12, (255, 255, 255)), with_grain(place, 2)]
    dhash, fields, _ = prints_of(pictures)
    assert np.bitwise_count(dhash[0] ^ dhash[2]) <= 4
    assert representatives(dhash, [0] * 4, [50.0] * 4, fields) == [0, 0, 2, 0]


def test_distance_of_miniatures_forgives_light_only() -> None:
    """Protects: a dimmed picture is that picture; something added is told by its own contrast."""
    fields = np.random.default_rng(0).integers(40, 200, (1, FIELDS)).astype(np.uint8)
    dimmed = np.round(fields * 0.5 + 10).astype(np.uint8)
    changed = fields.copy()
    changed[0, 70] = 255 - changed[0, 70] // 4
    assert miniature_distances(fields[0], dimmed)[0] < 3
    assert miniature_distances(fields[0], changed)[0] > 30


def test_a_slow_pan_does_not_chain() -> None:
    """Protects: nobody is further from the frame that stands for it than the setting says."""
    pan = hashes(*range(0, 60, 2))
    chosen = np.array(representatives(pan, [0] * 30, [50.0] * 30))
    assert np.bitwise_count(pan ^ pan[chosen]).max() <= 4
    assert 5 < len(set(chosen.tolist())) < 15


def test_groups_stay_in_their_shot_and_return() -> None:
    """Protects: the same picture in another shot stands for itself; inside a shot A-B-A is two groups."""
    assert representatives(hashes(0, 30, 0, 30, 0), [0, 0, 0, 0, 1], [50.0] * 5) == [0, 1, 0, 1, 4]


def test_contrast_never_breaks_the_distance() -> None:
    """Protects: a sharper frame stands for the group only if all are near to it."""
    assert representatives(hashes(4, 0, 8), [0] * 3, [10, 50, 10]) == [0, 0, 0]
    assert representatives(hashes(4, 0), [0] * 2, [10, 50]) == [1, 1]


def test_a_long_episode_is_quick() -> None:
    """Protects: 20,000 frames of one endless shot are grouped without comparing all pairs in Python."""
    frames = np.random.default_rng(0).integers(0, 2**63, 20_000, dtype=np.uint64)
    assert len(set(representatives(frames, [0] * 20_000, [50.0] * 20_000))) > 19_000
