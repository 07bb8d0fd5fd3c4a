"""Randomness that depends on a seed and a name alone, so that images that come or go do not change the others."""

import hashlib

import numpy as np


def digest(text: str) -> list[int]:
    """Return four 32-bit numbers that depend on the text alone."""
    return np.frombuffer(hashlib.sha256(text.encode()).digest()[:16], "<u4").tolist()


def generator_of(seed: int, name: str) -> np.random.Generator:
    """Return the source of randomness of a name."""
    return np.random.default_rng([seed, *digest(name)])
