"""Vectors shaped like those of image-text models, with characters known: for benchmarks of clustering. Making only."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NOISE = -1


@dataclass(frozen=True, slots=True)
class Synthetic:
    """Unit vectors float32 [N, D], the character of each (int32 [N], -1: nobody's), and the frame of each."""

    vectors: NDArray[np.float32]
    characters: NDArray[np.int32]
    frame_ids: NDArray[np.int64]


def clip_like(
    count: int, character_count: int, *, dimensions: int = 512, noise_share: float = 0.2, seed: int = 0
) -> Synthetic:
    """Draw vectors in a common cone, with a shared nuisance subspace, characters with outfits, and strangers.

    Twenty shows share a look; a character has one to three outfits and varies in its own few directions; pose and
    light are the same 32 directions for all, with heavy tails. Sizes are log-uniform from 25. Strangers have each an
    identity of their own, half of them within the look of a show. Half of the members share a frame with another
    of their show.
    """
    rng = np.random.default_rng(seed)
    cone = _unit(rng.normal(size=dimensions))
    shows = rng.normal(size=(20, dimensions)) / np.sqrt(dimensions) * 0.45
    nuisance = np.linalg.qr(rng.normal(size=(dimensions, 32)))[0].T
    identity = shows[np.arange(character_count) % 20] + _rows(rng, character_count, dimensions) * 0.42
    member_count = round(count * (1 - noise_share))
    sizes = np.exp(rng.uniform(np.log(25), np.log(25 * 120), character_count))
    sizes = np.maximum(25, sizes * member_count / sizes.sum()).astype(int)
    owners = np.repeat(np.arange(character_count), sizes)
    characters = np.full(count, NOISE, np.int32)
    characters[: min(count, len(owners))] = owners[:count]
    rng.shuffle(characters)
    outfits = 1 + rng.integers(0, 3, character_count)
    styles = _rows(rng, character_count * 3, dimensions).reshape(character_count, 3, dimensions) * 0.22
    own = _rows(rng, character_count * 12, dimensions).reshape(character_count, 12, dimensions) * 0.1
    vectors = np.empty((count, dimensions), np.float32)
    for start in range(0, count, 20_000):  # a block at a time: a million rows in float64 would not fit
        rows = slice(start, min(count, start + 20_000))
        who = characters[rows]
        is_noise = who == NOISE
        base = np.empty((len(who), dimensions), np.float32)
        if is_noise.any():
            lost = int(is_noise.sum())
            look = shows[rng.integers(20, size=lost)] * (rng.random((lost, 1)) < 0.5)
            base[is_noise] = look + _rows(rng, lost, dimensions) * 0.55
        one = who[~is_noise]
        worn = rng.integers(0, 3, len(one)) % outfits[one]
        moods = rng.normal(size=(len(one), 12)).astype(np.float32)
        base[~is_noise] = identity[one] + styles[one, worn] + np.einsum("nk,nkd->nd", moods, own[one])
        pose = rng.standard_t(6, size=(len(who), 32)).astype(np.float32) * 0.11
        grain = rng.normal(size=(len(who), dimensions)).astype(np.float32) * (0.28 / np.sqrt(dimensions))
        vectors[rows] = _unit(0.78 * cone + base + pose @ nuisance + grain)
    return Synthetic(vectors, characters, _frames(characters, rng))


def _frames(characters: NDArray[np.int32], rng: np.random.Generator) -> NDArray[np.int64]:
    """Put half of the instances two to a frame: different characters of one show, as scenes have them."""
    frames = np.arange(len(characters), dtype=np.int64)
    for show in range(20):
        of_show = rng.permutation(np.flatnonzero((characters % 20 == show) & (characters != NOISE)))
        pairs = of_show[: len(of_show) // 4 * 2].reshape(-1, 2)
        pairs = pairs[characters[pairs[:, 0]] != characters[pairs[:, 1]]]
        frames[pairs[:, 1]] = frames[pairs[:, 0]]
    return frames


def _rows(rng: np.random.Generator, count: int, dimensions: int) -> NDArray[np.float32]:
    return (rng.normal(size=(count, dimensions)) / np.sqrt(dimensions)).astype(np.float32)


def _unit(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)
