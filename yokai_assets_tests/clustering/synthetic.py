"""Synthetic instances with known identity, shaped like CLIP vectors of cut-outs.

A common mean (the "cone" of CLIP vectors), shows with characters in them, one nuisance subspace shared by all
(pose, light), a low-rank spread of each character's own, outfits as sub-modes, and noise in which every point has
an identity of its own. Test data only.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SyntheticSeries:
    """Unit vectors float32 [N, D], frame ids, and the true character of each (-1: noise)."""

    vectors: np.ndarray
    frame_ids: list[str]
    truth: np.ndarray


def synthetic_series(
    sizes: list[int],
    noise_count: int,
    seed: int = 0,
    *,
    dimension: int = 256,
    characters_per_show: int = 5,
    outfits: int = 1,
    nuisance: float = 0.45,
    own_spread: float = 0.35,
    shot_length: int = 1,
) -> SyntheticSeries:
    """Draw a series with one character per entry of `sizes` and `noise_count` strangers, two to a frame.

    A character's instances come in runs of 1 to `2 * shot_length - 1` that share outfit and all but a quarter of
    their pose, as the frames of a shot do.
    """
    rng = np.random.default_rng(seed)

    def directions(count: int) -> np.ndarray:
        return rng.normal(size=(count, dimension)) / np.sqrt(dimension)

    cone = directions(1)[0] * 1.3
    nuisance_basis = directions(24)
    show_count = -(-len(sizes) // characters_per_show)
    shows = directions(max(show_count, 1)) * 0.5

    def identity(index: int) -> np.ndarray:
        return cone + shows[index % len(shows)] + directions(1)[0] * 0.75

    def poses(shots: np.ndarray) -> np.ndarray:
        heavy_tailed = per_shot(shots, lambda count: rng.standard_t(6, size=(count, len(nuisance_basis))))
        return heavy_tailed @ nuisance_basis * nuisance / np.sqrt(len(nuisance_basis)) * 1.6

    def per_shot(shots: np.ndarray, draw: Callable[[int], np.ndarray]) -> np.ndarray:
        within = 0.0 if shot_length == 1 else 0.25
        return np.sqrt(1 - within) * draw(len(shots))[shots] + np.sqrt(within) * draw(len(shots))

    def shots_of(count: int) -> np.ndarray:
        lengths = rng.integers(1, 2 * shot_length, size=count)
        return np.repeat(np.arange(count), lengths)[:count]

    parts, truth = [], []
    for character, size in enumerate(sizes):
        centre = identity(character)
        own_basis = directions(8)
        outfit_offsets = directions(outfits) * (0.35 if outfits > 1 else 0.0)
        shots = shots_of(size)
        worn = rng.integers(outfits, size=size)[shots]
        own = per_shot(shots, lambda count: rng.normal(size=(count, 8))) @ own_basis * own_spread / np.sqrt(8) * 1.6
        parts.append(centre + outfit_offsets[worn] + own + poses(shots))
        truth += [character] * size
    if noise_count:
        strangers = np.stack([identity(int(rng.integers(max(show_count, 1)))) for _ in range(noise_count)])
        parts.append(strangers + poses(np.arange(noise_count)))
        truth += [-1] * noise_count
    vectors = np.concatenate(parts)
    vectors += rng.normal(size=vectors.shape) / np.sqrt(dimension) * 0.25
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    order = rng.permutation(len(vectors))
    labels = np.asarray(truth)[order]
    return SyntheticSeries(vectors[order].astype(np.float32), _frames_of(labels), labels)


def _frames_of(truth: np.ndarray) -> list[str]:
    """Put neighbours of different identity two to a frame, so that no frame shows a character twice."""
    frame_ids: list[str] = []
    frame, in_frame = 0, []
    for label in truth.tolist():
        if len(in_frame) == 2 or (label != -1 and label in in_frame):
            frame, in_frame = frame + 1, []
        in_frame.append(label)
        frame_ids.append(f"e01/{frame:06d}")
    return frame_ids
