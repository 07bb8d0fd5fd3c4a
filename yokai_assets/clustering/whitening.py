"""The space in which instances are compared: centred and half-whitened.

A linear step before any method; neighbours, groups and refinement all live in this space.
"""

import numpy as np

MAX_DIMENSIONS = 128
MIN_INSTANCES = 32


def half_whiten(vectors: np.ndarray) -> np.ndarray:
    """Centre vectors, divide their principal components by the root of their standard deviation, and normalise.

    Vectors of image-text models lie in a narrow cone, and what varies most among them is what all characters share:
    pose, size, light. Centring takes the cone away; half-whitening damps the shared directions without raising
    noise to the same height, as full whitening would. On synthetic series shaped like CLIP vectors it is the step
    that finds characters where the plain vectors do not.

    Args:
        vectors: Unit vectors float32 [N, D].

    Returns:
        Unit vectors float32 [N, d], d at most 128. The vectors themselves where fewer than 32 instances leave
        nothing to estimate, or where all are alike.
    """
    if len(vectors) < MIN_INSTANCES:
        return vectors
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    variances, axes = np.linalg.eigh(centred.T @ centred / len(vectors))
    variances, axes = variances[::-1], axes[:, ::-1]
    usable = int((variances > variances[0] * 1e-6).sum())
    count = min(MAX_DIMENSIONS, usable, len(vectors) - 1)
    if variances[0] < 1e-12 or count < 2:
        return vectors
    whitened = centred @ (axes[:, :count] / variances[:count] ** 0.25)
    lengths = np.linalg.norm(whitened, axis=1, keepdims=True)
    # An instance at the very mean has no direction: any will do, and it has no neighbours to mislead.
    whitened[lengths[:, 0] == 0.0, 0] = 1.0
    return (whitened / np.where(lengths == 0.0, 1.0, lengths)).astype(np.float32)
