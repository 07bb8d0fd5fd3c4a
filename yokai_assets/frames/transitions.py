"""Frames in which one picture goes over into another: fades from and to black or white, and dissolves.

Works on numbers that `scan` has measured; where shots begin is decided in `shots`.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

FADED_SHARE = 0.8
"""A frame of a fade counts as faded below this share of the full contrast."""

_MIN_STEP = 0.01
_LARGE_STEP = 0.5
_MIN_CORRELATION, _MIN_CORRELATION_OF_LARGE = 0.95, 0.6
_MAX_GAIN_MISMATCH = 0.25

_DISSOLVE_LENGTHS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48)
_DISSOLVE_MIN_LUMA = 8.0
_DISSOLVE_MAX_RESIDUAL = 0.02
_DISSOLVE_MAX_CORRELATION = 0.5
_WHOLE_SHARE = 0.95


@dataclass(frozen=True, slots=True)
class Transitions:
    """What fades and dissolves mean for an episode of N readable frames.

    Attributes:
        is_faded: bool [N]; in between: neither picture is whole.
        is_joined: bool [N - 1]; the frame and the next one are of one shot, whatever their hashes say.
        is_cut: bool [N - 1]; the middle of a dissolve: the next frame is of the next shot, whatever the hashes say.
    """

    is_faded: NDArray[np.bool_]
    is_joined: NDArray[np.bool_]
    is_cut: NDArray[np.bool_]


def find_transitions(
    miniature: NDArray[np.uint8],
    is_visible: NDArray[np.bool_],
    is_hard_cut: NDArray[np.bool_],
    bits_apart: NDArray[np.uint8],
    dhash: NDArray[np.uint64],
    shot_cut_bits: int,
) -> Transitions:
    """Find fades and dissolves.

    A *fade* is a run of neighbours in which one picture gets lighter or darker: miniatures correlate, and the
    distance to black (or to white) shrinks by the same factor as contrast, which no change of scenery does. Its dim
    end borders on black, on another shot or on the episode's end; where it goes on unchanged, it is a dim shot.

    A *dissolve* is a stretch in which each miniature is a mixture of those at both ends, which are clearly different
    pictures (the model of Hampapur, Jain and Weymouth 1995). Pans, zooms and people who walk by are no such mixture,
    or one of ends that are much alike.

    Args:
        miniature: uint8 [N, P], in order of frames.
        is_visible: bool [N]; false for black and blank frames.
        is_hard_cut: bool [N - 1], as hashes of neighbours say.
        bits_apart: uint8 [N - 1], Hamming distance of neighbours.
        dhash: uint64 [N].
        shot_cut_bits: Hamming distance of different pictures.
    """
    count = len(miniature)
    is_faded = np.zeros(count, bool)
    is_joined, is_cut = np.zeros(max(0, count - 1), bool), np.zeros(max(0, count - 1), bool)
    levels = miniature.astype(np.float32)
    for start, end in _fade_runs(levels, is_visible, bits_apart, shot_cut_bits):
        deviation = levels[start : end + 1].std(axis=1)
        is_faded[start : end + 1] |= deviation < FADED_SHARE * deviation.max()
        is_joined[start:end] = True
    for start, end, middle in _dissolves(levels, is_visible & ~is_faded, is_hard_cut, dhash, shot_cut_bits):
        is_faded[start + 1 : end] = True
        is_cut[middle] = True
    return Transitions(is_faded, is_joined, is_cut)


def _fade_runs(
    levels: NDArray[np.float32], is_visible: NDArray[np.bool_], bits_apart: NDArray[np.uint8], shot_cut_bits: int
) -> list[tuple[int, int]]:
    """Return first and last frame of every fade."""
    runs = []
    correlation = _correlation(levels[1:], levels[:-1])
    contrast = np.log(np.maximum(levels.std(axis=1), 1e-3))
    mean = levels.mean(axis=1)
    for distance in (np.log(mean + 1), np.log(256 - mean)):  # to black, to white
        for first, last in _same_direction(np.diff(distance), correlation, is_visible):
            gain, step = contrast[last] - contrast[first], distance[last] - distance[first]
            dim, beyond = (first, first - 1) if step > 0 else (last, last + 1)
            is_end = not 0 <= beyond < len(levels) or not is_visible[beyond]
            is_end = is_end or bits_apart[min(dim, beyond)] >= shot_cut_bits
            is_gain = abs(gain - step) <= _MAX_GAIN_MISMATCH * abs(gain) and abs(gain) >= -np.log(FADED_SHARE)
            if is_end and is_gain:
                runs.append((first, last))
    return runs


def _same_direction(
    steps: NDArray[np.float32], correlation: NDArray[np.float32], is_visible: NDArray[np.bool_]
) -> list[tuple[int, int]]:
    """Return first and last frame of every longest run in which one picture gets steadily lighter or darker."""
    # Few frames a second make large steps, and the camera moves in between.
    least = np.where(np.abs(steps) < _LARGE_STEP, _MIN_CORRELATION, _MIN_CORRELATION_OF_LARGE)
    is_step = (correlation >= least) & (np.abs(steps) >= _MIN_STEP) & is_visible[1:] & is_visible[:-1]
    direction = np.where(is_step, np.sign(steps), 0)
    bounds = np.flatnonzero(np.diff(direction, prepend=np.nan, append=np.nan) != 0)
    return [(int(first), int(last)) for first, last in pairwise(bounds) if direction[first]]


def _correlation(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return Pearson's correlation of each row with the same row of the other, float32 [N]."""
    one, other = (levels - levels.mean(axis=1, keepdims=True) for levels in (first, second))
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return (one * other).sum(axis=1) / np.maximum(norms, 1e-6)


def _dissolves(
    levels: NDArray[np.float32],
    is_visible: NDArray[np.bool_],
    is_hard_cut: NDArray[np.bool_],
    dhash: NDArray[np.uint64],
    shot_cut_bits: int,
) -> list[tuple[int, int, int]]:
    """Return (last whole frame before, first whole frame after, last frame that is more the old than the new)."""
    stops = np.concatenate([[0], np.cumsum(is_hard_cut | (is_visible[1:] != is_visible[:-1]))])
    found: list[tuple[float, int, int]] = []
    for length in _DISSOLVE_LENGTHS:
        first = np.arange(max(0, len(levels) - length))
        last = first + length
        is_open = is_visible[first] & (stops[first] == stops[last])
        is_open &= np.bitwise_count(dhash[first] ^ dhash[last]) >= shot_cut_bits
        first, last = first[is_open], last[is_open]
        span = levels[first] - levels[last]
        energy = (span**2).sum(axis=1)
        share, residual = _mixture(levels[first + length // 2], levels[last], span, energy)
        is_mixed = _correlation(levels[first], levels[last]) <= _DISSOLVE_MAX_CORRELATION
        is_mixed &= (energy >= _DISSOLVE_MIN_LUMA**2 * levels.shape[1]) & (residual <= _DISSOLVE_MAX_RESIDUAL * energy)
        is_mixed &= (share > 0.2) & (share < 0.8)
        found += zip(energy[is_mixed].tolist(), first[is_mixed].tolist(), last[is_mixed].tolist(), strict=True)
    is_taken = np.zeros(len(levels), bool)
    dissolves = []
    # The whole dissolve has the ends that differ most; parts of it, found at shorter lengths, lie inside it.
    for _, first, last in sorted(found, key=lambda one: (-round(one[0]), one[2] - one[1], one[1])):
        if is_taken[first : last + 1].any():
            continue
        trimmed = _trimmed(levels[first : last + 1])
        if trimmed is not None:
            start, end, middle = trimmed
            dissolves.append((first + start, first + end, first + middle))
            is_taken[first : last + 1] = True
    return sorted(dissolves)


def _trimmed(levels: NDArray[np.float32]) -> tuple[int, int, int] | None:
    """Return start, end and middle of the dissolve in a stretch of frames; None where it is no dissolve throughout."""
    span = (levels[0] - levels[-1])[None]
    energy = (span**2).sum(axis=1)
    share, residual = _mixture(levels, levels[-1:], span, energy)
    is_monotonic = bool((np.diff(share) <= 0.02).all())
    inside = np.flatnonzero((share > 1 - _WHOLE_SHARE) & (share < _WHOLE_SHARE))
    if not is_monotonic or not inside.size or float(residual.max()) > _DISSOLVE_MAX_RESIDUAL * float(energy[0]):
        return None
    return int(inside[0]) - 1, int(inside[-1]) + 1, int(np.flatnonzero(share >= 0.5)[-1])


def _mixture(
    levels: NDArray[np.float32], last: NDArray[np.float32], span: NDArray[np.float32], energy: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return how much of the first picture is in each frame (least squares), and what that leaves unexplained."""
    rest = levels - last
    share = (rest * span).sum(axis=1) / np.maximum(energy, 1e-6)
    return share, ((rest - share[:, None] * span) ** 2).sum(axis=1)
