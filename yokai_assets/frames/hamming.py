"""Leader clustering of hashes within a Hamming radius, exact, compiled: a million in seconds.

Numbers only. numba is imported here, so import this module inside functions (numba comes with umap-learn).

Multi-index hashing (Norouzi, Punjani and Fleet 2012, "Fast Search in Hamming Space with Multi-Index Hashing"): of
`radius + 2` pieces, two hashes within the radius have at least two in common; so a hash is compared only to leaders
with which it shares two pieces. For wide radii, `radius + 1` pieces of which one is shared make fewer tables.
"""

from itertools import combinations, pairwise

import numba
import numpy as np
from numpy.typing import NDArray

MAX_RADIUS = 16

_MAX_RADIUS_OF_PAIRS = 6
_SPREAD = np.uint64(0x9E3779B97F4A7C15)


def nearest_leaders(
    hashes: NDArray[np.uint64], miniatures: NDArray[np.uint8], radius: int, most_apart: float
) -> NDArray[np.int64]:
    """Give every hash the nearest earlier leader within reach; what has none becomes a leader.

    Args:
        hashes: uint64 [N].
        miniatures: uint8 [N, P].
        radius: Largest Hamming distance (0-16).
        most_apart: Largest distance of miniatures, as `duplicates.miniature_distances` measures it.

    Returns:
        int64 [N]: position of the leader; its own for a leader. Of several within reach the nearest, then the first.
    """
    if not 0 <= radius <= MAX_RADIUS:
        raise ValueError(f"radius {radius} is not between 0 and {MAX_RADIUS}")
    key_bits = int(np.clip(np.ceil(np.log2(max(2, hashes.size))), 8, 21))
    return _nearest_leaders(hashes, miniatures, radius, np.float32(most_apart), _masks(radius), key_bits)


def _masks(radius: int) -> NDArray[np.uint64]:
    """Return which bits make the key of each table."""
    shared = 2 if radius <= _MAX_RADIUS_OF_PAIRS else 1
    bounds = np.linspace(0, 64, radius + shared + 1).round().astype(int)
    pieces = [(1 << int(end)) - (1 << int(start)) for start, end in pairwise(bounds)]
    return np.array([sum(chosen) for chosen in combinations(pieces, shared)], np.uint64)


@numba.njit(cache=True)
def _bit_count(value):
    value = value - ((value >> np.uint64(1)) & np.uint64(0x5555555555555555))
    value = (value & np.uint64(0x3333333333333333)) + ((value >> np.uint64(2)) & np.uint64(0x3333333333333333))
    value = (value + (value >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((value * np.uint64(0x0101010101010101)) >> np.uint64(56))


@numba.njit(cache=True)
def _moments(rows):
    mean, deviation = np.empty(len(rows), np.float32), np.empty(len(rows), np.float32)
    for row in range(len(rows)):
        mean[row], deviation[row] = rows[row].mean(), rows[row].std()
    return mean, deviation


@numba.njit(cache=True)
def _are_alike(one, other, mean, other_mean, deviation, other_deviation, most_apart):
    scale = max(deviation, other_deviation)
    one_scale = np.float32(1) / max(deviation, np.float32(1))
    other_scale = np.float32(1) / max(other_deviation, np.float32(1))
    for field in range(one.size):
        if abs((one[field] - mean) * one_scale - (other[field] - other_mean) * other_scale) * scale > most_apart:
            return False
    return True


@numba.njit(cache=True)
def _nearest_leaders(hashes, miniatures, radius, most_apart, masks, key_bits):
    count, tables = hashes.size, masks.size
    mean, deviation = _moments(miniatures)
    newest = np.full((tables, 1 << key_bits), -1, np.int32)  # the leader that was last put into each bucket
    earlier = np.full((tables, count), -1, np.int32)  # the one before it in that bucket
    leader = np.arange(count)
    shift = np.uint64(64 - key_bits)
    for position in range(count):
        value = hashes[position]
        nearest, distance = -1, radius + 1
        for table in range(tables):
            candidate = newest[table, ((value & masks[table]) * _SPREAD) >> shift]
            while candidate >= 0:
                apart = _bit_count(hashes[candidate] ^ value)
                is_nearer = apart < distance or (apart == distance and candidate < nearest)
                if is_nearer and _are_alike(
                    miniatures[candidate], miniatures[position], mean[candidate], mean[position],
                    deviation[candidate], deviation[position], most_apart,
                ):  # fmt: skip
                    nearest, distance = candidate, apart
                candidate = earlier[table, candidate]
        if nearest >= 0:
            leader[position] = nearest
            continue
        for table in range(tables):
            key = ((value & masks[table]) * _SPREAD) >> shift
            earlier[table, position] = newest[table, key]
            newest[table, key] = position
    return leader
